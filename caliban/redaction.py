"""Remove secrets from text that is shown: user names and passwords in URLs, tokens, and known secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "***"

# Up to the last @ before the path, so that a password with an unescaped @ is removed whole.
_USERINFO = re.compile(r"(?<=//)[^/\s]*@")

# A signed assertion, which can be exchanged for an access token (RFC 7523; RFC 7519, 3 for the format).
_ASSERTION = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")


def strip_userinfo(text: str) -> str:
    """Return ``text`` without the user and password of its URLs: ``tcp://totoro:secret@host`` -> ``tcp://host``."""
    return _USERINFO.sub("", text)


def redact_assertions(text: str) -> str:
    """Return ``text`` with ``***`` in place of every signed assertion (JSON Web Token)."""
    return _ASSERTION.sub(HIDDEN, text)


def redact(secrets: Iterable[object], text: str) -> str:
    """Return ``text`` with ``***`` in place of each secret: as it is, percent-encoded, and escaped as in JSON.

    Secrets that are empty or not strings are ignored.
    """
    known = [secret for secret in secrets if isinstance(secret, str) and secret]
    forms = {form for secret in known for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text
