"""Credential plugins: programs that return the credential of a user, as ``exec`` in a kubeconfig names them.

Sources: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins;
k8s.io/client-go, plugin/pkg/client/auth/exec/exec.go.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caliban.bounded import parse_json
from caliban.clock import Clock, SystemClock
from caliban.helper_process import HELPER_SECONDS, HelperResult, run_helper, run_on_terminal
from caliban.platforms.kubernetes.connection import Credential, bearer
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.kubeconfig_file import Entry, is_true, pem_of, typed
from caliban.platforms.stored_json import parse_time
from caliban.redaction import clean_text, exception_text

INFO_VARIABLE = "KUBERNETES_EXEC_INFO"
LOGIN_SECONDS = 300.0
"""How long a plugin may take that asks a person, who may have to log in with a browser or a second factor."""

_GROUP = "client.authentication.k8s.io"
_VERSIONS = tuple(f"{_GROUP}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_MODES = ("Never", "IfAvailable", "Always")
_CAUSE_LIMIT = 2000
_REPORT_AFTER = 3
"""Seconds after which a message says what is waited for."""
_REPORT_PROMPT_AFTER = 30
"""The same where the plugin may have asked the user, who is typing."""
_FAILURE_LIFETIME = 30
"""Seconds for which a plugin that failed is not run again, for another context, say."""

_terminal = threading.Lock()
"""Held by the plugin that talks with the user."""


class LoginError(Exception):
    """There is no credential; the message shows none.

    Attributes:
        hint: what to do, where that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Plugin:
    """How to run a credential plugin.

    Attributes:
        command: the program: a path, or a name that is looked up on ``PATH``.
        arguments: of the program.
        variables: environment variables beside those of this process.
        version: the version of ``ExecCredential`` that it reads and writes.
        mode: ``Never``, ``IfAvailable`` or ``Always``: whether it gets standard input, if that is a terminal.
        install_hint: how to install it; None where the kubeconfig does not say so.
        cluster: what it gets to know about the cluster, or None.
    """

    command: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    version: str
    mode: str
    install_hint: str | None
    cluster: Mapping[str, object] | None

    @classmethod
    def of(cls, user: Entry, cluster: Entry) -> Plugin:
        """Read the plugin of a user, for a cluster. A path is relative to its kubeconfig, as those of certificates are.

        Raises:
            MalformedFileError, ValueError: it is malformed; the message shows no secret.
        """
        config = object_at(user.value, "exec")
        version, command = config.get("apiVersion"), config.get("command")
        if not isinstance(version, str) or not isinstance(command, str) or not command:
            raise ValueError("exec has no command or no apiVersion")
        if version not in _VERSIONS:
            raise ValueError(f"the apiVersion of exec is none of {', '.join(_VERSIONS)}")
        arguments = config.get("args") or []
        if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
            raise ValueError("the args of exec are not a list of strings")
        # kubectl requires a mode for v1, and has this default for the others
        mode = config.get("interactiveMode") or "IfAvailable"
        if mode not in _MODES:
            raise ValueError(f"the interactiveMode of exec is none of {', '.join(_MODES)}")
        hint = config.get("installHint")
        return cls(
            str(user.directory / command) if os.sep in command else command,
            tuple(arguments),
            _variables(config.get("env")),
            version,
            str(mode),
            clean_text(hint) if isinstance(hint, str) and hint.strip() else None,
            cluster_info(cluster) if is_true(config.get("provideClusterInfo")) else None,
        )

    @property
    def name(self) -> str:
        """For messages."""
        return Path(self.command).name

    @property
    def key(self) -> str:
        """The same for all users that are logged in by the same call."""
        values = (self.command, self.arguments, dict(self.variables), self.version, self.mode, self.cluster)
        return json.dumps(values, sort_keys=True)

    def info(self, *, is_interactive: bool) -> str:
        """Return the value of ``KUBERNETES_EXEC_INFO``."""
        spec: dict[str, object] = {"interactive": is_interactive}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        return json.dumps({"apiVersion": self.version, "kind": "ExecCredential", "spec": spec})


class PluginLogins:
    """The credentials of plugins in this process. May be shared by threads.

    Each plugin is run by one thread at a time, as its prompts would mix, and logins in a browser fail; the others use
    its result.
    """

    def __init__(self, environ: Mapping[str, str], clock: Clock, announce: Callable[[str], None]) -> None:
        """Run nothing yet.

        Args:
            environ: the environment variables of this process, which plugins inherit.
            clock: the time, by which credentials expire.
            announce: reports what is waited for.
        """
        self._environ, self._clock, self._announce = environ, clock, announce
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._found: dict[str, Credential] = {}
        self._failures: dict[tuple[str, bool], tuple[LoginError, float]] = {}

    def fetch(self, plugin: Plugin, rejected: Credential | None, *, may_ask: bool = True) -> Credential:
        """Return the credential of a plugin: the present one, unless it is expired or the rejected one.

        Args:
            plugin: how to run it.
            rejected: a credential that is not valid any more, or None.
            may_ask: whether it may ask the user, if it wants to.

        Raises:
            LoginError: there is none.
        """
        key = plugin.key
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            found = self._found.get(key)
            if found is not None and found is not rejected and not found.is_expired(self._clock):
                return found
            error, since = self._failures.get((key, may_ask), (None, 0.0))
            if error is not None and self._clock.monotonic() - since < _FAILURE_LIFETIME:
                raise error
            try:
                made = self._found[key] = _login(plugin, self._environ, self._announce, may_ask=may_ask)
            except LoginError as failure:
                self._failures[key, may_ask] = (failure, self._clock.monotonic())
                raise
            return made


def cluster_info(cluster: Entry) -> Mapping[str, object]:
    """Return the cluster information that plugins receive, with the ``config`` of their extension.

    Source: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/#Cluster.

    Raises:
        MalformedFileError, ValueError: the file of the CA cannot be read.
    """
    value = cluster.value
    info: dict[str, object] = {"server": str(value.get("server") or "")}
    info |= {key: str(value[key]) for key in ("tls-server-name", "proxy-url") if value.get(key)}
    info |= {key: True for key in ("insecure-skip-tls-verify", "disable-compression") if is_true(value.get(key))}
    authority = pem_of(cluster, "certificate-authority")
    if authority:
        info["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    extensions = value.get("extensions")
    for each in extensions if isinstance(extensions, list) else []:
        if isinstance(each, Mapping) and each.get("name") == f"{_GROUP}/exec":
            info["config"] = typed(each.get("extension"))
    return info


def has_terminal(descriptor: int = 0) -> bool:
    """Return whether standard input, or another standard stream, is a terminal."""
    with suppress(OSError):
        return os.isatty(descriptor)
    return False


class _Watching(SystemClock):
    """The time of a process, which is the real one; says what is waited for when that takes some seconds."""

    def __init__(self, report_after: float, on_slow: Callable[[], None], is_asking: Callable[[], bool]) -> None:
        self._report_after, self._on_slow, self._is_asking = report_after, on_slow, is_asking

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """See :meth:`Clock.wait`; one that asks the user has more time."""
        if super().wait(event, min(seconds, self._report_after)):
            return True
        self._on_slow()
        if super().wait(event, max(0.0, seconds - self._report_after)):
            return True
        return self._is_asking() and super().wait(event, LOGIN_SECONDS - seconds)


class _Prompts:
    """Passes on what a plugin writes to standard error once it is slow: where to log in, say."""

    def __init__(self, plugin: Plugin, announce: Callable[[str], None], secrets: tuple[str, ...]) -> None:
        self._plugin, self._announce, self._secrets = plugin, announce, secrets
        self._lock = threading.Lock()
        self._unread = b""
        self._is_slow = False
        self._has_written = False

    def is_asking(self) -> bool:
        """Return whether there is somebody to read what it has written."""
        with self._lock:
            return self._has_written and has_terminal(2)

    def on_slow(self) -> None:
        """Report what is waited for."""
        with self._lock:
            self._is_slow = True
            self._announce(f"waiting for the credential plugin {self._plugin.name} ...")
            self._pass_on()

    def write(self, piece: bytes) -> None:
        """Take a piece of its standard error."""
        with self._lock:
            self._has_written = True
            self._unread += piece
            if self._is_slow:
                self._pass_on()

    def _pass_on(self) -> None:
        """Report all complete lines."""
        lines, _, self._unread = self._unread.rpartition(b"\n")
        for line in clean_text(lines.decode("utf-8", "replace"), self._secrets, limit=_CAUSE_LIMIT).splitlines():
            if line.strip():
                self._announce(f"{self._plugin.name}: {line}")


def _login(plugin: Plugin, environ: Mapping[str, str], announce: Callable[[str], None], *, may_ask: bool) -> Credential:
    """Run a plugin, in the user's directory, and read its credential.

    Raises:
        LoginError: there is none.
    """
    program = plugin.command if os.sep in plugin.command else shutil.which(plugin.command, path=environ.get("PATH"))
    if program is None or not Path(program).exists():
        raise LoginError(f"the credential plugin {plugin.name} is not installed", plugin.install_hint)
    is_interactive = may_ask and plugin.mode != "Never" and has_terminal()
    if plugin.mode == "Always" and not is_interactive:
        raise LoginError(
            f"the credential plugin {plugin.name} requires a terminal, and standard input is not one",
            "run the command in a terminal, or log in to the cluster with kubectl first",
        )
    ended = _run(plugin, program, environ, announce, is_interactive=is_interactive)
    if ended.code != 0:
        secrets = tuple(plugin.variables.values())
        said = clean_text(ended.stderr.decode("utf-8", "replace").strip(), secrets, limit=_CAUSE_LIMIT)
        failed = f"the credential plugin {plugin.name} failed with exit code {ended.code}"
        raise LoginError(f"{failed}: {said}" if said else failed)
    try:
        return parse_credential(ended.stdout, plugin.version)
    except ValueError as error:
        raise LoginError(f"the credential plugin {plugin.name} {error}") from error


def _run(
    plugin: Plugin, program: str, environ: Mapping[str, str], announce: Callable[[str], None], *, is_interactive: bool
) -> HelperResult:
    """Run a plugin, whose program is at a path, to its end.

    Raises:
        LoginError: it cannot be started, or does not end.
    """
    variables = {**environ, **plugin.variables, INFO_VARIABLE: plugin.info(is_interactive=is_interactive)}
    secrets = tuple(plugin.variables.values())
    prompts = _Prompts(plugin, announce, secrets)
    try:
        command = (program, *plugin.arguments)
        if is_interactive:
            clock = _Watching(_REPORT_PROMPT_AFTER, prompts.on_slow, prompts.is_asking)
            with _terminal:
                return run_on_terminal(command, clock, environ=variables, seconds=LOGIN_SECONDS)
        clock = _Watching(_REPORT_AFTER, prompts.on_slow, prompts.is_asking)
        return run_helper(command, clock, environ=variables, seconds=HELPER_SECONDS, on_stderr=prompts.write)
    except (OSError, ValueError) as error:
        raise LoginError(f"the credential plugin {plugin.name} failed: {exception_text(error, secrets)}") from error


def _variables(env: object) -> dict[str, str]:
    found = {}
    for each in env if isinstance(env, list) else []:
        name, value = (each.get("name"), each.get("value") or "") if isinstance(each, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise ValueError("the env of exec is not a list of names and values")
        found[name] = value
    return found


def parse_credential(output: bytes, version: str) -> Credential:
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
    if expires is None and status.get("expirationTimestamp") is not None:
        raise ValueError("wrote an expirationTimestamp that is no time")
    certificate, key = status.get("clientCertificateData") or None, status.get("clientKeyData") or None
    if (certificate is None) != (key is None):
        raise ValueError("wrote a client certificate without its key, or a key without its certificate")
    pair = (certificate, key) if isinstance(certificate, str) and isinstance(key, str) else None
    try:
        authorization = bearer(status["token"]) if status.get("token") else None
    except ValueError as error:
        raise ValueError(f"wrote a malformed credential: {error}") from None
    if authorization is None and pair is None:
        raise ValueError("wrote neither a token nor a client certificate with its key")
    return Credential(authorization, pair, expires)
