"""Taking out of other programs' words what nobody may read: the logins within URLs, and secrets that we know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "***"

# Up to the last @ before the path: a password with an @ of its own, which should be written %40, is hidden whole.
_LOGIN = re.compile(r"(?<=//)[^/\s]*@")


# A signed assertion: whoever has it can get an access token for it (RFC 7523; RFC 7519, 3 for the form).
_ASSERTION = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")


def strip_userinfo(text: str) -> str:
    """``text`` without the user and password of any URL in it: ``tcp://totoro:secret@host`` becomes ``tcp://host``."""
    return _LOGIN.sub("", text)


def redact_assertions(text: str) -> str:
    """``text`` with ``***`` in place of every signed assertion (JSON Web Token)."""
    return _ASSERTION.sub(HIDDEN, text)


def redact(secrets: Iterable[object], text: str) -> str:
    """``text`` with ``***`` in place of each of ``secrets``, as it is and as URLs, forms and JSON spell it.

    What is no text, or empty, hides nothing.
    """
    known = [secret for secret in secrets if isinstance(secret, str) and secret]
    forms = {form for secret in known for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text
