"""The proxy on the way to a server, by the rules of kubectl: of Go's ``net/http``.

Sources: golang.org/x/net/http/httpproxy (proxy.go); k8s.io/apimachinery, pkg/util/net/http.go
(``NewProxierWithNoProxyCIDR``); k8s.io/client-go, tools/clientcmd/helpers.go (``parseProxyURL``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from caliban.urls import is_loopback

if TYPE_CHECKING:
    from urllib3 import PoolManager

SCHEMES = ("http", "https", "socks5", "socks5h")

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def checked_proxy(url: str) -> str:
    """Return the URL of a proxy, complete with its scheme, which is http where none is given, and its port.

    Raises:
        ValueError: it is no such URL; the message does not show it, as it may have a password.
    """
    stripped = url.strip()
    complete = stripped if "://" in stripped else f"http://{stripped}"
    try:
        parts = urlsplit(complete)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    scheme = parts.scheme
    if scheme not in SCHEMES:
        raise ValueError(f"its scheme is none of {', '.join(SCHEMES)}")
    if not host or not complete.isprintable() or " " in complete or parts.path.strip("/") or parts.query:
        raise ValueError("it is not SCHEME://HOST:PORT")
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port or _PORTS[scheme]}"


def proxy_of(server: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy for a server that the environment variables name, or None; this machine needs none.

    A variable counts in capitals first, and ``ALL_PROXY`` not at all, as for kubectl.

    Raises:
        ValueError: the variable has no proxy's URL; the message names it.
    """
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    name = f"{parts.scheme}_proxy"
    variable = next((each for each in (name.upper(), name) if environ.get(each)), None)
    if variable is None or is_loopback(host) or _is_excepted(parts, host, environ):
        return None
    try:
        return checked_proxy(environ[variable])
    except ValueError as error:
        raise ValueError(f"the environment variable {variable} has no proxy: {error}") from None


def _is_excepted(parts: SplitResult, host: str, environ: Mapping[str, str]) -> bool:
    """Return whether ``NO_PROXY`` has the host: by name, domain, address or network, with its port or without."""
    port = str(parts.port or _PORTS.get(parts.scheme, 443))
    listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    rules = [rule for each in listed.split(",") if (rule := each.strip().lower())]
    return "*" in rules or any(_matches(rule, host, port) for rule in rules)


def _matches(rule: str, host: str, port: str) -> bool:
    address = _address(host)
    network = _network(rule) if "/" in rule else None
    if network is not None:
        return address is not None and address.version == network.version and address in network
    name, rule_port = _split_port(rule)
    if rule_port and rule_port != port:
        return False
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*")
    if domain.startswith("."):
        return host.endswith(domain)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(rule: str) -> tuple[str, str]:
    """Return host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]:PORT`` or ``IPV6``."""
    if rule.startswith("["):
        host, _, port = rule[1:].partition("]")
        return host, port.removeprefix(":")
    host, colon, port = rule.partition(":")
    return (rule, "") if ":" in port or not colon else (host, port)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def proxy_manager(proxy: str, **options: Any) -> PoolManager:  # noqa: ANN401 - of urllib3
    """Return urllib3's connections through a proxy.

    Names are resolved by the proxy, of socks5 too, as Go's client has it: those of a cluster behind a bastion host mean
    nothing elsewhere.

    Args:
        proxy: of :func:`checked_proxy`.
        options: of ``urllib3.PoolManager``, and ``proxy_ssl_context`` for the certificate of an https proxy.
    """
    import urllib3

    parts = urlsplit(proxy)
    if parts.scheme.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        options.pop("proxy_ssl_context", None)
        login = [unquote(each) for each in (parts.username, parts.password) if each is not None]
        return SOCKSProxyManager(
            f"socks5h://{parts.netloc.rpartition('@')[2]}",
            *(login if len(login) == 2 else (*login, "") if login else ()),
            **options,
        )
    headers = {}
    if parts.username is not None:
        login_text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login_text)
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", proxy_headers=headers, **options)


def secrets_of(proxy: str | None) -> Iterator[str]:
    """Yield the password of a proxy's URL, as it is and decoded."""
    password = urlsplit(proxy).password if proxy else None
    if password:
        yield password
        yield unquote(password)
