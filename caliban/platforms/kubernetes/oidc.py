"""Refresh the id token of a user with the auth provider ``oidc``.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens and
https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokens.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from urllib.parse import quote_plus, urlencode

from caliban.bounded import parse_json
from caliban.platforms.kubernetes.connection import is_https, make_tls
from caliban.platforms.kubernetes.kubeconfig_file import Entry, MalformedFileError, pem_of
from caliban.platforms.kubernetes.proxies import proxy_of
from caliban.platforms.kubernetes.transport import NoResponseError, OversizedError, Request, exchange, make_pool
from caliban.redaction import clean_text

_TIMEOUTS = (10.0, 20.0)
_DISCOVERY = "/.well-known/openid-configuration"


class OidcError(Exception):
    """The id token cannot be refreshed; the message shows no secret."""


def expiry_of(token: object) -> datetime | None:
    """Return when an id token (a JSON Web Token) expires; None where it does not say so."""
    parts = token.strip().split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return None
    try:
        claims = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims["exp"] if isinstance(claims, Mapping) else None
        return datetime.fromtimestamp(float(expires), timezone.utc) if isinstance(expires, int | float) else None
    except (binascii.Error, ValueError, LookupError, OverflowError, OSError):
        return None


def refreshed(
    config: Mapping[str, object], user: Entry, environ: Mapping[str, str], on_wait: Callable[[], None]
) -> Mapping[str, object]:
    """Return new values of ``id-token`` and ``refresh-token``, from the issuer. Redirects are not followed.

    Args:
        config: of the auth provider.
        user: whose it is, for the paths in it.
        environ: the environment variables, for a proxy.
        on_wait: called when it takes longer than a few seconds.

    Raises:
        OidcError: the issuer cannot be asked, or refuses.
        MalformedFileError, ValueError: the configuration is malformed.
    """
    issuer, client, token = (config.get(key) for key in ("idp-issuer-url", "client-id", "refresh-token"))
    if not isinstance(issuer, str) or not isinstance(client, str) or not isinstance(token, str) or not token.strip():
        raise ValueError("auth-provider oidc has no idp-issuer-url, client-id or refresh-token")
    if not is_https(issuer):
        raise ValueError("idp-issuer-url is not an https URL")
    authority = pem_of(Entry(user.name, config, user.directory), "idp-certificate-authority")
    secret = config.get("client-secret")
    secret = secret.strip() if isinstance(secret, str) else ""
    session = _Session(authority, (secret, token.strip()), environ, on_wait)
    found = session.ask(Request("GET", issuer.rstrip("/") + _DISCOVERY, {"Accept": "application/json"}))
    endpoint = found.get("token_endpoint")
    if str(found.get("issuer") or "").rstrip("/") != issuer.rstrip("/"):
        raise OidcError("the discovery document of the OIDC issuer is that of another issuer")
    if not isinstance(endpoint, str) or not is_https(endpoint):
        raise OidcError("the token endpoint of the OIDC issuer is not an https URL")
    values = {"grant_type": "refresh_token", "refresh_token": token.strip(), "client_id": client}
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if secret:
        login = base64.b64encode(f"{quote_plus(client)}:{quote_plus(secret)}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    answer = session.ask(Request("POST", endpoint, headers, urlencode(values).encode()))
    new = answer.get("id_token")
    if not isinstance(new, str) or not new.strip():
        raise OidcError("the OIDC issuer returned no id token")
    again = answer.get("refresh_token")
    return {"id-token": new, "refresh-token": again if isinstance(again, str) and again.strip() else token}


class _Session:
    """Requests to an issuer."""

    def __init__(
        self,
        authority: str | None,
        secrets: tuple[str, ...],
        environ: Mapping[str, str],
        on_wait: Callable[[], None],
    ) -> None:
        try:
            self._tls = make_tls(authority)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise MalformedFileError("the CA of the OIDC issuer cannot be read") from error
        self._secrets, self._environ, self._on_wait = secrets, environ, on_wait

    def ask(self, request: Request) -> Mapping[str, object]:
        """Return the JSON object of a response.

        Raises:
            OidcError: there is none.
        """
        pool = make_pool(proxy_of(request.url, self._environ), ssl_context=self._tls)
        try:
            response = exchange(pool, request, _TIMEOUTS, self._on_wait)
        except (NoResponseError, OversizedError) as error:
            raise OidcError(f"no answer from the OIDC issuer: {self._redacted(str(error))}") from error
        finally:
            pool.clear()
        try:
            parsed = parse_json(response.content)
        except ValueError:
            parsed = None
        if response.status != 200 or not isinstance(parsed, Mapping):
            text = response.content[:2000].decode("utf-8", "replace").strip()
            raise OidcError(f"the OIDC issuer answered HTTP {response.status}: {self._redacted(text)}")
        return parsed

    def _redacted(self, text: str) -> str:
        return clean_text(text, self._secrets)
