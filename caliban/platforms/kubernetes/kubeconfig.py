"""The contexts of a kubeconfig, and how to connect to the cluster of each.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from caliban.clock import Clock, SystemClock
from caliban.errors import UsageError
from caliban.platforms.kubernetes.connection import (
    LOOPBACK,
    Connection,
    Credential,
    Credentials,
    is_plain_authority,
    server_identity,
)
from caliban.platforms.kubernetes.details import kubectl
from caliban.platforms.kubernetes.errors import KubernetesUnreachableError
from caliban.platforms.kubernetes.in_cluster import SERVICE_ACCOUNT, pod_namespace, with_this_cluster
from caliban.platforms.kubernetes.kubeconfig_file import (
    Entry,
    KubeconfigContent,
    MalformedFileError,
    pem_of,
    read_kubeconfig,
)
from caliban.platforms.kubernetes.proxies import checked_proxy, proxy_of

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.exec_plugin import PluginLogins

VARIABLE = "KUBECONFIG"
DEFAULT_NAMESPACE = "default"

_DEFAULT_FILE = Path(".kube/config")
_SHOWN_NAMES = 20


@dataclass(frozen=True)
class KubeContext:
    """One context of a kubeconfig.

    Attributes:
        name: of the context.
        cluster: the name of its cluster in the kubeconfig.
        server: the URL of the cluster; "" where none is given.
        namespace: its default namespace.
        is_current: whether it is the current context.
    """

    name: str
    cluster: str
    server: str
    namespace: str
    is_current: bool


class Kubeconfig:
    """The files in ``$KUBECONFIG``, separated by ``:``, or ``~/.kube/config``. Every method reads them.

    In a pod, its own cluster is one more context, ``in-cluster``.

    Attributes:
        location: the files, as ``$KUBECONFIG`` lists them.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        home: Path,
        clock: Clock | None = None,
        announce: Callable[[str], None] = lambda line: None,
        logins: PluginLogins | None = None,
        *,
        may_ask: bool = True,
    ) -> None:
        """Read nothing yet.

        Args:
            environ: the environment variables; credential plugins get them.
            home: the user's home directory.
            clock: the time, by which credentials expire; None for that of this machine.
            announce: reports what is waited for.
            logins: what credential plugins returned; shared by those whose plugins are the same.
            may_ask: whether plugins may ask the user.
        """
        self.location = environ.get(VARIABLE) or str(home / _DEFAULT_FILE)
        self._environ, self._home = environ, home
        self._clock, self._announce = clock or SystemClock(), announce
        self._logins, self._may_ask = logins, may_ask

    @property
    def exists(self) -> bool:
        """Whether any of the files exists."""
        files = self._files()
        return any(os.path.exists(file) and not os.path.isdir(file) for file in files)  # noqa: PTH110, PTH112 - no errors

    def contexts(self) -> list[KubeContext]:
        """Return all contexts, in their order; [] without a file, except in a pod.

        Raises:
            UsageError: ``kubeconfig-malformed``.
        """
        content = self._content()
        return [self._context(content, entry) for entry in content.contexts.values()] if content else []

    def context(self, name: str | None) -> KubeContext:
        """Return the context of that name, or the current one.

        Raises:
            UsageError: ``no-cluster``, ``unknown-context``, ``kubeconfig-malformed``.
        """
        contexts = self.contexts()
        for context in contexts:
            if context.name == name or (name is None and context.is_current):
                return context
        raise self._no_context(name, [context.name for context in contexts])

    def connection(self, name: str) -> Connection:
        """Return how to connect to the cluster of a context. The kubeconfig is never written.

        Credential plugins are run. Credentials that expire are refreshed when a request is sent, which may then raise
        KubernetesUnreachableError, too.

        Raises:
            UsageError: ``unknown-context``, ``kubeconfig-malformed``, ``kubeconfig-insecure``, ``proxy-malformed``.
            KubernetesUnreachableError: there are no credentials.
        """
        from caliban.platforms.kubernetes.credentials import impersonation_of

        context = self.context(name)
        self._check_server(context)
        content = self._content()
        assert content is not None  # it has the context
        cluster = content.clusters[context.cluster]
        user_name = _text(content.contexts[name].value, "user")
        if user_name and user_name not in content.users:
            raise self._malformed(f"the context {name}: there is no user {user_name}")
        user = content.users.get(user_name, Entry("", {}, Path()))
        credentials = self._credentials(context, user, cluster)
        try:
            authority = pem_of(cluster, "certificate-authority")
            impersonation = impersonation_of(user)
        except (MalformedFileError, ValueError) as error:
            raise self._malformed(f"the context {name}: {error}") from error
        connection = Connection(
            context.server.rstrip("/"),
            credentials,
            authority,
            _text(cluster.value, "tls-server-name") or None,
            self._proxy(context, cluster),
            impersonation,
        )
        credentials.current()
        return connection

    def _credentials(self, context: KubeContext, user: Entry, cluster: Entry) -> Credentials:
        """Return the credentials of a user; none for a server without TLS, such as ``kubectl proxy``, as in kubectl.

        Source: k8s.io/client-go, tools/clientcmd/client_config.go (ClientConfig: "only ... if we are secure").
        """
        from caliban.platforms.kubernetes.credentials import UserCredentials
        from caliban.platforms.kubernetes.exec_plugin import PluginLogins

        if urlsplit(context.server).scheme != "https":
            return Credentials(Credential, self._clock)
        logins = self._logins or PluginLogins(self._environ, self._clock, self._announce)
        source = UserCredentials(
            user, cluster, self._environ, logins, self._clock, self._announce, may_ask=self._may_ask
        )

        def fetch() -> Credential:
            return self._log_in(context.name, source.fetch)

        return Credentials(fetch, self._clock, lambda: source.is_renewable)

    def _proxy(self, context: KubeContext, cluster: Entry) -> str | None:
        """Return the proxy for a cluster: its own, else that of the environment.

        Raises:
            UsageError: ``kubeconfig-malformed``, ``proxy-malformed``.
        """
        own = _text(cluster.value, "proxy-url")
        try:
            return checked_proxy(own) if own else proxy_of(context.server, self._environ)
        except ValueError as error:
            if own:
                cause = f"the context {context.name}: the proxy-url of the cluster {context.cluster}: {error}"
                raise self._malformed(cause) from error
            raise malformed_proxy(error) from error

    def server_identity(self, name: str) -> str:
        """Return what the server of a context is recognised by; "" where that cannot be read.

        No plugin is run, and nothing is sent.
        """
        try:
            context, content = self.context(name), self._content()
            cluster = content.clusters.get(context.cluster) if content else None
            if cluster is None:
                return ""
            return server_identity(context.server.rstrip("/"), pem_of(cluster, "certificate-authority"))
        except (UsageError, MalformedFileError, ValueError):
            return ""

    def _log_in(self, name: str, fetch: Callable[[], Credential]) -> Credential:
        from caliban.platforms.kubernetes.exec_plugin import LoginError

        try:
            return fetch()
        except (MalformedFileError, ValueError) as error:
            raise self._malformed(f"the context {name}: {error}") from error
        except LoginError as error:
            raise KubernetesUnreachableError(
                f"cannot get credentials for the cluster of the context {name}",
                str(error),
                error.hint or f"log in to the cluster again, and check with: {kubectl(name)} get jobs",
                is_transient=False,
                outcome_unknown=False,
            ) from error

    def _check_server(self, context: KubeContext) -> None:
        """Require TLS, except for a proxy on this machine such as ``kubectl proxy``."""
        try:
            parts = urlsplit(context.server)
            is_good = is_plain_authority(parts.netloc) and context.server.isprintable() and " " not in context.server
            is_good = is_good and not (parts.query or parts.fragment or "\\" in context.server)
            host = parts.hostname
        except ValueError:
            is_good = False
        if not is_good or (parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK)):
            raise UsageError(
                "kubeconfig-insecure",
                f"the server of the context {context.name} is not an https URL",
                cause=f"server: {context.server or 'none'}",
                hint=f"correct the cluster {context.cluster} in {self.location}",
            )

    def _files(self) -> list[Path]:
        found = []
        for part in self.location.split(os.pathsep):
            if part == "~" or part.startswith("~/"):
                found.append(self._home / part[2:])
            elif part:
                found.append(Path(part))
        return found

    def _content(self) -> KubeconfigContent | None:
        try:
            return with_this_cluster(read_kubeconfig(self._files()), self._environ)
        except MalformedFileError as error:
            raise self._malformed(str(error)) from error

    def _context(self, content: KubeconfigContent, entry: Entry) -> KubeContext:
        cluster = _text(entry.value, "cluster")
        found = content.clusters.get(cluster)
        server = _text(found.value, "server") if found else ""
        namespace = _text(entry.value, "namespace") or pod_namespace(self._environ) or DEFAULT_NAMESPACE
        return KubeContext(entry.name, cluster, server, namespace, entry.name == content.current)

    def _no_context(self, name: str | None, names: list[str]) -> UsageError:
        listed = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
        if name is None:
            content = self._content()
            cause = f"{self.location} has no current context" if self.exists else f"file not found: {self.location}"
            if content is not None and content.current:
                cause = f'the current context "{content.current}" of {self.location} does not exist'
            return UsageError(
                "no-cluster",
                "no cluster is selected",
                cause=cause,
                hint="choose a context with --context"
                + (f" ({listed})" if names else "")
                + ", or a GKE cluster with --cluster_name",
            )
        if not names:
            hint = f"set ${VARIABLE} to another file, or choose a GKE cluster with --cluster_name"
            message = f'unknown context "{name}": {self.location} has no contexts'
            return UsageError("unknown-context", message, hint=hint)
        near = difflib.get_close_matches(name[:100], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the contexts are {listed}"
        return UsageError("unknown-context", f'{self.location} has no context "{name}"', hint=hint)

    def _malformed(self, cause: str) -> UsageError:
        if not self.exists:
            return UsageError(
                "kubeconfig-malformed",
                "cannot log in with the service account of this pod",
                cause=cause,
                hint=f"check the files in {SERVICE_ACCOUNT}, or use a kubeconfig",
            )
        return UsageError(
            "kubeconfig-malformed",
            f"malformed kubeconfig: {self.location}",
            cause=cause,
            hint="check it with: kubectl config view",
        )


def malformed_proxy(error: ValueError) -> UsageError:
    """Return the error for an environment variable that has no proxy's URL."""
    return UsageError(
        "proxy-malformed",
        "malformed proxy",
        cause=str(error),
        hint="set it to SCHEME://HOST:PORT, or the server's host in NO_PROXY",
    )


def _text(parent: Mapping[str, object], name: str) -> str:
    value = parent.get(name)
    return value if isinstance(value, str) else ""
