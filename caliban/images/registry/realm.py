"""Where a registry may have its login sent: the ``realm`` of its challenge, a URL that it chooses itself.

A login is for the registry that the user logged in to. Its token service has the same host, or belongs to the same
site: it is a parent of that host (``gitlab.com`` for ``registry.gitlab.com``) or has the same one
(``auth.docker.io`` for ``registry-1.docker.io``); or it is known to serve the registry, or named by the user.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping

from caliban.urls import is_confidential, is_loopback, split_url

TOKEN_HOSTS_VARIABLE = "CALIBAN_REGISTRY_TOKEN_HOSTS"
"""Further hosts of token services, separated by commas."""

_KNOWN: Mapping[str, str] = {"rg.fr-par.scw.cloud": "api.scaleway.com", "rg.nl-ams.scw.cloud": "api.scaleway.com"}
"""Host of a registry -> host of its token service, of another site."""

# Below these, anybody may have a host: two hosts there have nothing to do with each other. And the second level of many
# countries: co.uk, com.au.
_SHARED = frozenset(
    {
        *("amazonaws.com", "appspot.com", "azurecr.io", "azurewebsites.net", "cloudapp.net", "cloudfront.net"),
        *("fly.dev", "github.io", "gitlab.io", "herokuapp.com", "netlify.app", "ngrok.app", "ngrok.io"),
        *("ngrok-free.app", "nip.io", "onrender.com", "pages.dev", "run.app", "sslip.io", "vercel.app", "web.app"),
        *("windows.net", "workers.dev", "jfrog.io", "duckdns.org"),
    }
)
_COUNTRY = re.compile(r"(?:ac|co|com|edu|gob|gov|go|gouv|ne|net|nom|or|org)\.[a-z]{2}")


def realm_problem(realm: str, registry: str) -> str | None:
    """Return why a login must not be sent to a token service; None where it may.

    Args:
        realm: its URL, as the registry names it.
        registry: ``HOST[:PORT]`` that was asked.
    """
    parts = split_url(realm)
    if parts is None:
        return "is not the URL of a token service"
    if not is_confidential(parts):
        return "does not use HTTPS"
    host, own = parts.hostname or "", _host(registry)
    if host == own or (is_loopback(host) and is_loopback(own)) or _KNOWN.get(own) == host or host in _named():
        return None
    return None if _is_same_site(host, own) else f"is not of the site of {own}"


def _is_same_site(host: str, registry: str) -> bool:
    """Return whether a host is the parent of the registry's, or has the same one."""
    if _is_address(host) or _is_address(registry):
        return False
    parent = registry.partition(".")[2]
    is_site = "." in parent and parent not in _SHARED and not _COUNTRY.fullmatch(parent)
    return is_site and (host == parent or host.endswith(f".{parent}"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host(registry: str) -> str:
    parts = split_url(f"https://{registry}/")
    return "" if parts is None else parts.hostname or ""


def _named() -> frozenset[str]:
    return frozenset(filter(None, re.split(r"[\s,]+", os.environ.get(TOKEN_HOSTS_VARIABLE, "").lower())))
