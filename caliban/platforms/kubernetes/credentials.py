"""The credential of a user of a kubeconfig: a token, a client certificate, a password, a plugin, or OIDC.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#AuthInfo.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from caliban.clock import Clock
from caliban.platforms.kubernetes.connection import Credential, bearer
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.kubeconfig_file import Entry, file_of, pem_of
from caliban.platforms.kubernetes.plugin import PluginError, run_plugin
from caliban.platforms.stored_json import parse_time
from caliban.redaction import redact, redact_assertions

_UTC = timezone.utc
_GCLOUD_HINT = (
    "install gke-gcloud-auth-plugin and run: gcloud container clusters get-credentials; or use --cluster_name"
)


class LoginError(Exception):
    """There is no credential; the message shows none.

    Attributes:
        hint: what to do, where that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UserCredentials:
    """Gets the credential of one user for one cluster."""

    def __init__(
        self, user: Entry, cluster: Entry, environ: Mapping[str, str], clock: Clock, announce: Callable[[str], None]
    ) -> None:
        self._user, self._cluster = user, cluster
        self._environ, self._clock, self._announce = environ, clock, announce
        self._refreshed: Mapping[str, object] = {}

    def fetch(self) -> Credential:
        """Return a credential; a plugin is run, and an issuer asked, where that is necessary.

        Raises:
            LoginError: there is none.
            MalformedFileError, ValueError: the kubeconfig is malformed; the message shows no secret.
        """
        found = self._authorization()
        return replace(found, certificate=found.certificate or self._certificate())

    def _authorization(self) -> Credential:
        user = self._user.value
        provider = object_at(user, "auth-provider")
        if provider.get("name") in ("oidc", "gcp", "azure"):
            return self._of_provider(str(provider["name"]), object_at(provider, "config"))
        if user.get("token"):
            return Credential(bearer(user["token"]))
        token = file_of(self._user, "tokenFile")
        if token is not None:
            # such files are written again before the token expires, as those of service accounts
            return Credential(bearer(token), expires=datetime.min.replace(tzinfo=_UTC))
        if isinstance(user.get("exec"), Mapping):
            return self._of_plugin(object_at(user, "exec"))
        name, password = user.get("username"), user.get("password")
        if isinstance(name, str) and isinstance(password, str):
            login = base64.b64encode(f"{name}:{password}".encode()).decode()
            return Credential(f"Basic {login}")
        return Credential()

    def _certificate(self) -> tuple[str, str] | None:
        certificate = pem_of(self._user, "client-certificate")
        key = pem_of(self._user, "client-key")
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise ValueError("a client certificate needs both client-certificate and client-key")
        return certificate, key

    def _of_plugin(self, config: Mapping[str, object]) -> Credential:
        version, command = config.get("apiVersion"), config.get("command")
        if not isinstance(version, str) or not isinstance(command, str) or not command:
            raise ValueError("exec has no command or no apiVersion")
        arguments = config.get("args") or []
        if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
            raise ValueError("the args of exec are not a list of strings")
        spec: dict[str, object] = {"interactive": False}
        if config.get("provideClusterInfo") == "true":
            spec["cluster"] = _cluster_info(self._cluster.value)
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
        environ = {**self._environ, **_variables(config.get("env")), "KUBERNETES_EXEC_INFO": json.dumps(info)}
        name = Path(command).name
        waiting = f"waiting for the credential plugin {name} ..."
        try:
            output = run_plugin([command, *arguments], environ, self._user.directory, lambda: self._announce(waiting))
            return _parse_credential(output, version)
        except PluginError as error:
            secrets = _variables(config.get("env")).values()
            text = redact_assertions(redact(secrets, str(error)))
            hint = config.get("installHint") if error.is_missing else None
            raise LoginError(
                f"the credential plugin {name} {text}", hint if isinstance(hint, str) and hint else None
            ) from error

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
                    known, self._user, lambda: self._announce("waiting for the OIDC issuer ...")
                )
            except OidcError as error:
                raise LoginError(str(error)) from error
            token = self._refreshed["id-token"]
            expires = expiry_of(token)
        return Credential(bearer(token), expires=expires)

    def _now(self) -> datetime:
        return self._clock.now().astimezone(_UTC)


def _cluster_info(cluster: Mapping[str, object]) -> dict[str, object]:
    """Return a cluster as plugins are told of it, with the ``config`` that is meant for them.

    Source: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/#Cluster.
    """
    info: dict[str, object] = {
        key: value
        for key, value in cluster.items()
        if key in ("server", "tls-server-name", "certificate-authority-data", "proxy-url")
    }
    extensions = cluster.get("extensions")
    for each in extensions if isinstance(extensions, list) else []:
        if isinstance(each, Mapping) and each.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = each.get("extension")
    return info


def _variables(env: object) -> dict[str, str]:
    found = {}
    for each in env if isinstance(env, list) else []:
        name, value = (each.get("name"), each.get("value")) if isinstance(each, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise ValueError("the env of exec is not a list of names and values")
        found[name] = value
    return found


def _parse_credential(output: str, version: str) -> Credential:
    """Read what a plugin wrote: an ``ExecCredential``.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#input-and-output-formats.

    Raises:
        PluginError: it is none; the message does not show it.
    """
    try:
        parsed = json.loads(output)
    except (ValueError, RecursionError):
        raise PluginError("wrote no JSON") from None
    if not isinstance(parsed, Mapping) or parsed.get("kind") != "ExecCredential":
        raise PluginError("wrote no ExecCredential")
    if parsed.get("apiVersion") != version:
        raise PluginError(f"wrote another apiVersion than {version}")
    status = object_at(parsed, "status")
    expires = parse_time(status.get("expirationTimestamp"))
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    pair = (certificate, key) if isinstance(certificate, str) and isinstance(key, str) else None
    try:
        authorization = bearer(status["token"]) if status.get("token") else None
    except ValueError as error:
        raise PluginError(f"wrote a malformed credential: {error}") from None
    if authorization is None and pair is None:
        raise PluginError("wrote neither a token nor a client certificate with its key")
    return Credential(authorization, pair, expires)
