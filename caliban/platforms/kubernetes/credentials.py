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
from threading import Event

from caliban.bounded import parse_json
from caliban.clock import Clock, SystemClock
from caliban.helper_process import run_helper
from caliban.platforms.kubernetes.connection import Credential, bearer
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.kubeconfig_file import Entry, file_of, pem_of
from caliban.platforms.stored_json import parse_time
from caliban.redaction import clean_text, exception_text, register_secrets

_UTC = timezone.utc
_GCLOUD_HINT = (
    "install gke-gcloud-auth-plugin and run: gcloud container clusters get-credentials; or use --cluster_name"
)


_CAUSE_LIMIT = 2000
_REPORT_AFTER = 3
"""Seconds after which a message says what is waited for."""


class LoginError(Exception):
    """There is no credential; the message shows none.

    Attributes:
        hint: what to do, where that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class _Announcing(SystemClock):
    """The time of a process, which is the real one; says what is waited for when that takes some seconds."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce

    def wait(self, event: Event, seconds: float) -> bool:
        """See :meth:`Clock.wait`."""
        if super().wait(event, min(seconds, _REPORT_AFTER)):
            return True
        self._announce()
        return super().wait(event, max(0.0, seconds - _REPORT_AFTER))


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
        complete = replace(found, certificate=found.certificate or self._certificate())
        register_secrets(*complete.secrets, *(complete.certificate or ())[1:])
        return complete

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
        secrets = tuple(_variables(config.get("env")).values())
        waiting = _Announcing(lambda: self._announce(f"waiting for the credential plugin {name} ..."))
        try:
            ended = run_helper([command, *arguments], waiting, environ=environ, cwd=self._directory)
        except FileNotFoundError as error:
            hint = config.get("installHint")
            raise LoginError(
                f"the credential plugin {name} is not installed", hint if isinstance(hint, str) and hint else None
            ) from error
        except (OSError, ValueError) as error:
            raise LoginError(f"the credential plugin {name} failed: {exception_text(error, secrets)}") from error
        if ended.code != 0:
            said = clean_text(ended.stderr.decode("utf-8", "replace").strip(), secrets, limit=_CAUSE_LIMIT)
            failed = f"the credential plugin {name} failed with exit code {ended.code}"
            raise LoginError(f"{failed}: {said}" if said else failed)
        try:
            return _parse_credential(ended.stdout, version)
        except ValueError as error:
            raise LoginError(f"the credential plugin {name} {error}") from error

    @property
    def _directory(self) -> str | None:
        """Where plugins run: a relative path of one is relative to its kubeconfig."""
        return str(self._user.directory) if self._user.directory.parts else None

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
    """Return the cluster information that plugins receive, with the ``config`` of their extension.

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


def _parse_credential(output: bytes, version: str) -> Credential:
    """Read what a plugin wrote: an ``ExecCredential``.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#input-and-output-formats.

    Raises:
        ValueError: it is none; the message goes on after the plugin's name, and does not show what it wrote.
    """
    try:
        parsed = parse_json(output)
    except ValueError:
        raise ValueError("wrote no JSON") from None
    if not isinstance(parsed, Mapping) or parsed.get("kind") != "ExecCredential":
        raise ValueError("wrote no ExecCredential")
    if parsed.get("apiVersion") != version:
        raise ValueError(f"wrote another apiVersion than {version}")
    status = object_at(parsed, "status")
    expires = parse_time(status.get("expirationTimestamp"))
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    pair = (certificate, key) if isinstance(certificate, str) and isinstance(key, str) else None
    try:
        authorization = bearer(status["token"]) if status.get("token") else None
    except ValueError as error:
        raise ValueError(f"wrote a malformed credential: {error}") from None
    if authorization is None and pair is None:
        raise ValueError("wrote neither a token nor a client certificate with its key")
    return Credential(authorization, pair, expires)
