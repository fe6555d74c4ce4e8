"""Read URLs that others wrote, before something is sent there: strictly, as HTTP clients differ in what they accept."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

# urlsplit drops or accepts some characters that HTTP clients read differently (newlines, backslashes).
_URL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{1,4096}")


def split_url(url: str) -> SplitResult | None:
    """Return the parts of an absolute http or https URL; None where it is malformed, or has a user or password.

    With a user, ``http://localhost:80@example.com`` would be a URL of example.com that looks like one of this machine.
    """
    if not _URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    is_complete = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return parts if is_complete and "@" not in parts.netloc and "%" not in parts.netloc else None


def origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a URL; None where :func:`split_url` has none."""
    parts = split_url(url)
    if parts is None:
        return None
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def is_loopback(host: str) -> bool:
    """Return whether a host, without a port, is this machine by its name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_confidential(parts: SplitResult) -> bool:
    """Return whether nobody else can read what is sent to a URL: by https, or by http on this machine."""
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
