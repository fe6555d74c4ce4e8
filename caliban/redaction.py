"""Remove secrets from text that is shown: credentials in URLs and headers, tokens, and the secrets in use.

Also the boundary for libraries: what their exceptions say is shown only as :func:`exception_text` returns it, because
they repeat header values, URLs and file contents.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from caliban.errors import CalibanError
from caliban.escapes import escaped

HIDDEN = "***"

TEXT_LIMIT = 2000
"""Characters of an error message that are shown."""
_READ_LIMIT = 16_384
"""Characters of a text that are searched for secrets; the rest is dropped, so that no text takes long."""
_LINE_LIMIT = 500
_WORD_LIMIT = 8
"""Shorter secrets are hidden only as whole words: a password "a" must not hide every "a"."""

# Up to the last @ before the path, so that a password with an unescaped @ is removed whole; and through a path too
# where what follows the colon is no port, so that one with an unescaped / is.
_USERINFO = re.compile(r"(?<=//)(?:[^/\s]*|[^/\s@:\[]*:(?!\d*[/?#])[^\s@]*)@")
# Of a proxy, which needs no scheme: user:password@host:3128.
_BARE_USERINFO = re.compile(r"(?<![\w/.+-])[\w.+%-]{1,100}:[^\s/@:'\"]{1,200}@(?=[\w.-]+:\d)")

# A signed assertion, which can be exchanged for an access token (RFC 7523; RFC 7519, 3 for the format).
_ASSERTION = re.compile(r"\beyJ[\w-]{1,4096}\.[\w-]{1,8192}\.[\w-]+")

# Tokens that have a recognizable start: OAuth access and refresh tokens, API keys, and those of GitHub, GitLab,
# Docker Hub, Hugging Face and AWS.
_TOKENS = re.compile(
    r"\b(?:ya29\.[\w.~+/=-]{8,}|1//0[\w-]{20,}|AIza[\w-]{30,}|gh[a-z]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|dckr_(?:pat|oat|jti)_[\w-]{16,}|hf_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16})"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)

# RFC 6750, 2.1 (b64token).
_TOKEN68 = r"[A-Za-z0-9._~+/=-]"
_CREDENTIALS: tuple[tuple[re.Pattern[str], str], ...] = (
    (_PRIVATE_KEY, HIDDEN),
    # A header, as it is sent or as a library shows it: "Authorization: Bearer x", "{'authorization': 'Bearer x'}".
    (
        re.compile(
            r"\b((?:proxy-)?authorization|x-registry-auth|x-goog-api-key|private-token)"
            r"(['\"]?\s*[:=,]\s*(?:(?-i:b)?['\"])?)(?:(?:bearer|basic|negotiate|digest|token)\s+)?[^\s'\",}\]]+",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    # The value of such a header alone: b'Bearer x\n'. Prose ("Basic authentication", "Bearer realm=") stays.
    (re.compile(r"(?<=['\"])(bearer|basic)\s+[^'\"]*", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(rf"\b(bearer|basic)\s+(?!realm=)(?=[a-z]*[^\sa-z,.;:]){_TOKEN68}{{6,}}", re.IGNORECASE),
        rf"\1 {HIDDEN}",
    ),
    # Fields of requests and answers, in JSON, forms, URLs and Python's notation.
    (
        re.compile(
            r"\b((?:access|refresh|id|identity|subject|registry|bearer|auth)_?token|client_?secret|client_assertion"
            r"|assertion|password|private_key|(?<=['\"])secret|x-goog-signature|x-amz-signature)"
            r"(\\?['\"]?\s*[:=]\s*(?:(?-i:b)?\\?['\"])?)(?!\*\*\*)[^\s'\"&,;})\]\\]{4,}",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    # The arguments of a build, in the URL of the request: some are passwords of proxies and package indexes.
    (re.compile(r"\bbuildargs=[^&\s'\"]*"), f"buildargs={HIDDEN}"),
    (_TOKENS, HIDDEN),
)

_known: set[str] = set()
_lock = threading.Lock()


def register_secrets(*secrets: object) -> None:
    """Hide these secrets in every text from now on; what is empty or not a string is ignored.

    For every credential of this process as soon as it is known: a token, a password, a private key. Lines of a secret
    count by themselves, as libraries show values in part.
    """
    found = {form for secret in secrets if isinstance(secret, str) for form in (secret, secret.strip())}
    found |= {line.strip() for secret in tuple(found) for line in secret.splitlines() if len(line) >= _WORD_LIMIT}
    found = {form for form in found if form.strip() and not form.startswith("-----")}
    with _lock:
        _known.update(found)


def forget_secrets() -> None:
    """Forget what was registered: for tests, which share a process."""
    with _lock:
        _known.clear()


def strip_userinfo(text: str) -> str:
    """Return ``text`` without the user and password of its URLs: ``tcp://totoro:secret@host`` -> ``tcp://host``."""
    return _BARE_USERINFO.sub("", _USERINFO.sub("", text))


def redact_assertions(text: str) -> str:
    """Return ``text`` with ``***`` in place of every signed assertion (JSON Web Token)."""
    return _ASSERTION.sub(HIDDEN, text)


def redact(secrets: Iterable[object], text: str) -> str:
    """Return ``text`` with ``***`` in place of each secret: as it is, percent-encoded, and escaped as in JSON.

    Secrets that are empty or not strings are ignored.
    """
    known = {secret for secret in secrets if isinstance(secret, str) and secret}
    forms = {form for secret in known for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _forms(secret: str) -> Iterator[str]:
    """Yield how a text may show a secret: as it is, and encoded for URLs, JSON and Python."""
    yield secret
    with_surrogates = secret.encode("utf-8", "surrogatepass")
    yield quote(with_surrogates, safe="")
    yield quote(with_surrogates)
    yield quote_plus(with_surrogates)
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield repr(with_surrogates)[2:-1]


def clean_text(text: str, secrets: Iterable[object] = (), *, limit: int = TEXT_LIMIT) -> str:
    """Return a text of a library or service as it may be shown: without secrets, control characters escaped.

    Lines stay lines.

    Args:
        text: of any length.
        secrets: to hide beside the registered ones and what looks like a credential.
        limit: the longest text that is returned, in characters.
    """
    # Before anything is cut off or escaped: a part of a secret would not be recognized.
    text = hide_secrets(text[:_READ_LIMIT], secrets)
    text = escape_controls(text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def hide_secrets(text: str, secrets: Iterable[object] = ()) -> str:
    """Return ``text`` without registered secrets, ``secrets``, and what looks like a credential; nothing else changes.

    Args:
        text: of some 100,000 characters at most.
        secrets: to hide beside the registered ones.
    """
    with _lock:
        known = tuple(_known)
    text = redact([*secrets, *(secret for secret in known if len(secret) >= _WORD_LIMIT)], text)
    for word in (secret for secret in known if len(secret) < _WORD_LIMIT):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, text)
    text = strip_userinfo(redact_assertions(text))
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def has_credential(text: str) -> bool:
    """Return whether a text has a registered secret, a private key, a login in a URL, or a token that is known by its
    start. For long texts such as source code, where fields that are merely called "password" do not count.
    """
    with _lock:
        known = tuple(secret for secret in _known if len(secret) >= _WORD_LIMIT)
    if any(secret in text for secret in known):
        return True
    if "@" in text and _USERINFO.search(text):
        return True
    if "eyJ" in text and _ASSERTION.search(text):
        return True
    return _PRIVATE_KEY.search(text) is not None or _TOKENS.search(text) is not None


def escape_controls(text: str) -> str:
    """Return ``text`` with escapes for all that is not visible; lines stay lines, and tabs stay."""
    return escaped(text, keep="\n\t")


def exception_text(error: BaseException, secrets: Iterable[object] = (), *, limit: int = _LINE_LIMIT) -> str:
    """Return what an exception of a library says as it may be shown: one line of bounded length, without secrets.

    Never raises, whatever the exception's ``__str__`` does, and is never empty: the exception's type stands in for a
    missing text.

    Args:
        error: any exception.
        secrets: to hide beside the registered ones.
        limit: the longest text that is returned, in characters.
    """
    name = type(error).__name__
    try:
        text = _os_error_text(error) if isinstance(error, OSError) and error.strerror else str(error)
    except Exception:  # noqa: BLE001 - a library's exception may fail to describe itself in any way
        return name
    line = " ".join(clean_text(str(text), secrets, limit=_READ_LIMIT).split())
    return (line if len(line) <= limit else f"{line[: limit - 3]}...") or name


def _os_error_text(error: OSError) -> str:
    return str(error.strerror) if error.filename is None else f"{error.strerror}: {error.filename}"


@contextmanager
def library_boundary(translate: Callable[[str], CalibanError], secrets: Iterable[object] = ()) -> Iterator[None]:
    """Turn whatever a library raises in this block into one of our errors, without its text or traceback.

    Our own errors pass. What a caller can classify, such as a timeout, it catches inside the block.

    Args:
        translate: makes the error, from :func:`exception_text`.
        secrets: to hide beside the registered ones.
    """
    try:
        yield
    except CalibanError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: a library may raise anything
        raise translate(exception_text(error, secrets)) from None
