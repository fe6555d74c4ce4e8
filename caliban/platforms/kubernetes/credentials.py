"""The credential of a user of a kubeconfig: a token, a client certificate, a password, a plugin, or OIDC.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#AuthInfo.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from urllib.parse import quote

from caliban.clock import Clock
from caliban.platforms.kubernetes.connection import Credential, bearer
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.exec_plugin import LoginError, Plugin, PluginLogins
from caliban.platforms.kubernetes.kubeconfig_file import Entry, MalformedFileError, file_of, pem_of
from caliban.platforms.stored_json import parse_time
from caliban.redaction import register_secrets

_UTC = timezone.utc
_ALWAYS_EXPIRED = datetime.min.replace(tzinfo=_UTC)
"""For what is in a file that others write again before it expires: it is read for each request."""
_GCLOUD_HINT = (
    "install gke-gcloud-auth-plugin and run: gcloud container clusters get-credentials; or use --cluster_name"
)
_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"
"""Those of RFC 9110, beside letters and digits; a percent sign would be read as an escape."""


class UserCredentials:
    """Gets the credential of one user for one cluster."""

    def __init__(
        self,
        user: Entry,
        cluster: Entry,
        environ: Mapping[str, str],
        logins: PluginLogins,
        clock: Clock,
        announce: Callable[[str], None],
        *,
        may_ask: bool = True,
    ) -> None:
        self._user, self._cluster, self._environ, self._may_ask = user, cluster, environ, may_ask
        self._logins, self._clock, self._announce = logins, clock, announce
        self._refreshed: Mapping[str, object] = {}
        self._from_plugin: Credential | None = None
        self._from_file: Credential | None = None

    @property
    def is_renewable(self) -> bool:
        """Whether another credential may be accepted after this one was rejected: that of a plugin."""
        return self._from_plugin is not None

    def fetch(self) -> Credential:
        """Return a credential; a plugin is run, and an issuer asked, where that is necessary.

        Raises:
            LoginError: there is none.
            MalformedFileError, ValueError: the kubeconfig is malformed; the message shows no secret.
        """
        complete = self._complete()
        register_secrets(*complete.secrets, *(complete.certificate or ())[1:])
        return complete

    def _complete(self) -> Credential:
        """Return the first credential that the user has, as kubectl chooses; a client certificate goes with any.

        Source: k8s.io/client-go, transport/round_trippers.go (HTTPWrappersForConfig), plugin/pkg/client/auth/exec
        (UpdateTransportConfig): a plugin is run only where there is no other credential.
        """
        self._check()
        user = self._user.value
        certificate = self._certificate()
        found = self._token() or self._password()
        if found is not None:
            return self._with(found, certificate)
        provider = object_at(user, "auth-provider")
        if provider.get("name") in ("oidc", "gcp", "azure"):
            return self._with(self._of_provider(str(provider["name"]), object_at(provider, "config")), certificate)
        if isinstance(user.get("exec"), Mapping) and certificate is None:
            plugin = Plugin.of(self._user, self._cluster)
            self._from_plugin = self._logins.fetch(plugin, self._from_plugin, may_ask=self._may_ask)
            return self._from_plugin
        return self._with(Credential(), certificate)

    def _check(self) -> None:
        """Refuse a user with credentials of which one would be ignored, as kubectl does.

        Source: k8s.io/client-go, tools/clientcmd/validation.go (validateAuthInfo).
        """
        user = self._user.value
        if (user.get("token") or user.get("tokenFile")) and user.get("username"):
            raise ValueError("the user has both a token and a username")
        if isinstance(user.get("exec"), Mapping) and isinstance(user.get("auth-provider"), Mapping):
            raise ValueError("the user has both an auth-provider and exec")

    def _with(self, found: Credential, certificate: tuple[str, str] | None) -> Credential:
        if certificate is not None and self._user.value.keys() & {"client-certificate", "client-key"}:
            # files that are written again, as by the kubelet and by cert-manager
            return replace(found, certificate=certificate, expires=_ALWAYS_EXPIRED)
        return replace(found, certificate=certificate)

    def _token(self) -> Credential | None:
        """Return the token of the file, or else the token itself.

        Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#AuthInfo: the last successfully read
        value takes precedence.
        """
        token = self._user.value.get("token")
        if self._user.value.get("tokenFile"):
            try:
                text = file_of(self._user, "tokenFile")
                self._from_file = Credential(bearer(text), expires=_ALWAYS_EXPIRED)
            except (MalformedFileError, ValueError):
                if self._from_file is None and not token:
                    raise
            if self._from_file is not None:
                return self._from_file
        return Credential(bearer(token)) if token else None

    def _password(self) -> Credential | None:
        name, password = self._user.value.get("username"), self._user.value.get("password") or ""
        if not isinstance(name, str) or not isinstance(password, str) or not name:
            return None
        return Credential(f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}")

    def _certificate(self) -> tuple[str, str] | None:
        """Return the client certificate with its key; a key without a certificate is ignored, as by kubectl."""
        certificate = pem_of(self._user, "client-certificate")
        if certificate is None:
            return None
        key = pem_of(self._user, "client-key")
        if key is None:
            raise ValueError("a client certificate needs both client-certificate and client-key")
        return certificate, key

    def _of_provider(self, name: str, config: Mapping[str, object]) -> Credential:
        if name == "oidc":
            return self._of_issuer(config)
        token, expiry = config.get("access-token"), parse_time(config.get("expiry"))
        if isinstance(token, str) and token and (expiry is None or expiry > self._now()):
            return Credential(bearer(token), expires=expiry)
        raise LoginError(
            f"the auth provider {name} is not supported any more, as in kubectl since 1.26",
            _GCLOUD_HINT if name == "gcp" else "log in with a credential plugin (exec) instead, such as kubelogin",
        )

    def _of_issuer(self, config: Mapping[str, object]) -> Credential:
        from caliban.platforms.kubernetes.oidc import OidcError, expiry_of, refreshed

        known = {**config, **self._refreshed}
        token = known.get("id-token")
        expires = expiry_of(token)
        if not isinstance(token, str) or not token.strip() or (expires is not None and expires <= self._now()):
            try:
                self._refreshed = refreshed(
                    known, self._user, self._environ, lambda: self._announce("waiting for the OIDC issuer ...")
                )
            except OidcError as error:
                raise LoginError(str(error)) from error
            token = self._refreshed["id-token"]
            expires = expiry_of(token)
        return Credential(bearer(token), expires=expires)

    def _now(self) -> datetime:
        return self._clock.now().astimezone(_UTC)


def impersonation_of(user: Entry) -> tuple[tuple[str, str], ...]:
    """Return the headers by which a request acts as another user: those of ``as``, ``as-uid`` and so on.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/; k8s.io/client-go,
    transport/round_trippers.go (impersonatingRoundTripper, headerKeyEscape).

    Raises:
        ValueError: they are malformed, or there is no ``as``: the request would act as the user itself.
    """
    value = user.value
    name, uid, groups, extra = (value.get(key) for key in ("as", "as-uid", "as-groups", "as-user-extra"))
    if not name:
        if uid or groups or extra:
            raise ValueError("as-uid, as-groups and as-user-extra need as, the name of the user")
        return ()
    found = [("Impersonate-User", name)]
    if uid:
        found.append(("Impersonate-Uid", uid))
    found += [("Impersonate-Group", each) for each in _list("as-groups", groups)]
    if extra is not None and not isinstance(extra, Mapping):
        raise ValueError("as-user-extra is not an object of lists")
    for key, values in (extra or {}).items():
        escaped = quote(str(key), safe=_TOKEN_CHARACTERS)
        found += [(f"Impersonate-Extra-{escaped}", each) for each in _list("as-user-extra", values)]
    return tuple((header, _header_value(each)) for header, each in found)


def _list(name: str, value: object) -> Iterator[object]:
    if value is None:
        return iter(())
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return iter(value)


def _header_value(value: object) -> str:
    """Return a value as the characters of its bytes in UTF-8, which is how Go sends it."""
    if not isinstance(value, str) or any(ord(each) < 32 or ord(each) == 127 for each in value):
        raise ValueError("the user to impersonate has a value that is no text, or has control characters")
    return value.encode("utf-8", "replace").decode("latin-1")
