"""Clusters that a kubeconfig names: its contexts, and how to reach each. The client is imported when one is reached.

Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from caliban.errors import UsageError
from caliban.platforms.kubernetes.errors import KubernetesUnreachableError

if TYPE_CHECKING:
    from kubernetes.client import Configuration

VARIABLE = "KUBECONFIG"
DEFAULT_NAMESPACE = "default"

_DEFAULT_FILE = Path(".kube/config")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class KubeContext:
    """One context of a kubeconfig.

    Attributes:
        name: of the context.
        cluster: what the kubeconfig calls its cluster.
        server: the cluster's address; "" where none is given.
        namespace: the one that it uses where none is named.
        is_current: whether it is the current one.
    """

    name: str
    cluster: str
    server: str
    namespace: str
    is_current: bool


class Kubeconfig:
    """The files that ``$KUBECONFIG`` names, several joined by ``:``, or ``~/.kube/config``. Read when it is asked."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.location = environ.get(VARIABLE) or str(home / _DEFAULT_FILE)

    @property
    def exists(self) -> bool:
        """Whether any of the files is there."""
        return any(Path(part).expanduser().is_file() for part in self.location.split(os.pathsep) if part)

    def contexts(self) -> list[KubeContext]:
        """Every context, in the order in which they stand there; [] without a file.

        Raises:
            UsageError: ``kubeconfig-malformed``.
        """
        if not self.exists:
            return []
        content: Mapping[str, object] = self._content().value
        servers = {
            _text(entry, "name"): _text(_object(entry, "cluster"), "server") for entry in _objects(content, "clusters")
        }
        current = _text(content, "current-context")
        found = []
        for entry in _objects(content, "contexts"):
            context, name = _object(entry, "context"), _text(entry, "name")
            cluster = _text(context, "cluster")
            namespace = _text(context, "namespace") or DEFAULT_NAMESPACE
            found.append(KubeContext(name, cluster, servers.get(cluster, ""), namespace, name == current))
        return found

    def context(self, name: str | None) -> KubeContext:
        """The context of that name, or the current one.

        Raises:
            UsageError: ``no-cluster``, ``unknown-context``, ``kubeconfig-malformed``.
        """
        contexts = self.contexts()
        for context in contexts:
            if context.name == name or (name is None and context.is_current):
                return context
        names = [context.name for context in contexts]
        if name is None:
            raise UsageError(
                "no-cluster",
                "which cluster is meant is not said",
                cause=f"{self.location} names no current context" if names else f"there is no {self.location}",
                hint="name a context with --context"
                + (f" ({', '.join(names)})" if names else "")
                + ", or a GKE cluster with --cluster_name; `caliban cluster ls` shows both",
            )
        if not names:
            hint = f"${VARIABLE} names another file; or name a GKE cluster with --cluster_name"
            raise UsageError("unknown-context", f"there is no context {name}: {self.location} has none", hint=hint)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the contexts are {', '.join(names)}"
        raise UsageError("unknown-context", f"{self.location} has no context {name}", hint=hint)

    def configuration(self, name: str) -> Configuration:
        """How to reach the cluster of a context, logins by plugins included. The file stays as it is.

        Logins that expire are renewed when a request is made, which may raise KubernetesUnreachableError, too.

        Raises:
            UsageError: ``unknown-context``, ``kubeconfig-malformed``, ``kubeconfig-insecure``.
            KubernetesUnreachableError: its plugin gives no credentials.
        """
        from kubernetes.client import Configuration
        from kubernetes.config.kube_config import KubeConfigLoader

        context = self.context(name)
        self._check_server(context)
        made: Any = Configuration()
        loader: Any = KubeConfigLoader
        content = self._content()
        _verify_issuers(content)

        def log_in() -> None:
            loader(content, active_context=context.name, config_base_path=None).load_and_set(made)

        self._log_in(context, log_in)
        renew = made.refresh_api_key_hook

        def renew_and_report(made: Any) -> None:  # noqa: ANN401 - not all versions of the client have types
            try:
                self._log_in(context, lambda: renew(made))
            finally:
                made.refresh_api_key_hook = renew_and_report  # the client's own puts itself back

        if renew is not None:
            made.refresh_api_key_hook = renew_and_report
        configuration: Configuration = made
        return configuration

    def _log_in(self, context: KubeContext, log_in: Callable[[], None]) -> None:
        """Log in, and raise what goes wrong with that, and what the client would only log."""
        from google.auth.exceptions import GoogleAuthError
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]  # what the client logs in with by OIDC
        from urllib3.exceptions import HTTPError

        with _captured_log_errors() as complaints:
            try:
                log_in()
            except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                cause = _without_content(str(error)) or type(error).__name__
                raise self._malformed(f"the context {context.name}: {cause}") from error
            except (GoogleAuthError, ApiException, HTTPError, OAuth2Error) as error:  # of users with an auth-provider
                complaints.append(str(error))
        if complaints:
            raise KubernetesUnreachableError(
                f"there are no credentials for the cluster of the context {context.name}",
                "\n".join(complaints),
                f"log in anew as this cluster asks for it, until `kubectl --context {context.name} get jobs` works",
                is_transient=False,
                outcome_unknown=False,
            )

    def _check_server(self, context: KubeContext) -> None:
        """Credentials and code go over TLS, but for a proxy on this machine, as of ``kubectl proxy``."""
        parts = urlsplit(context.server)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise UsageError(
                "kubeconfig-insecure",
                f"the cluster of the context {context.name} is not reached over https",
                cause=f"server: {context.server or 'none'}",
                hint=f"correct the cluster {context.cluster} in {self.location}",
            )

    def _content(self) -> Any:  # noqa: ANN401 - the client's own kind, which knows the file of each entry
        import yaml
        from kubernetes.config import ConfigException
        from kubernetes.config.kube_config import KubeConfigMerger

        merge: Any = KubeConfigMerger
        try:
            merger = merge(self.location)
        except (ConfigException, OSError, UnicodeDecodeError, TypeError, AttributeError, KeyError) as error:
            raise self._malformed(_without_content(str(error)) or type(error).__name__) from error
        except yaml.YAMLError as error:
            # The parser shows the lines around a mistake, which may hold a token.
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            raise self._malformed(f"it is not YAML{place}") from None
        if not isinstance(getattr(merger.config, "value", None), Mapping):
            raise self._malformed("it is empty")
        # The first file that names a current context counts, as kubectl has it; the client takes the last one's.
        named = (_text(content, "current-context") for content in merger.config_files.values())
        merger.config.value["current-context"] = next(filter(None, named), "")
        return merger.config

    def _malformed(self, cause: str) -> UsageError:
        return UsageError(
            "kubeconfig-malformed",
            f"the kubeconfig {self.location} cannot be used",
            cause=cause,
            hint="`kubectl config view` shows how it is read",
        )


class _LogErrors(logging.Filter):
    """Takes what the client would only log of a login that does not work."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.module != "kube_config" or record.levelno < logging.ERROR:
            return True
        self.messages.append(record.getMessage())
        return False


def _without_content(message: str) -> str:
    """The client's message without what it repeats of the file: tokens, perhaps."""
    return re.sub(r"\{.*\}", "...", message, flags=re.DOTALL)


def _verify_issuers(content: Any) -> None:  # noqa: ANN401 - see :meth:`Kubeconfig._content`
    """Have the client verify those who renew logins (OIDC): without a CA of theirs it does not, and sends secrets."""
    import certifi

    for entry in _objects(content.value, "users"):
        provider = _object(_object(entry, "user"), "auth-provider")
        config = provider.get("config")
        if isinstance(config, dict) and "idp-certificate-authority-data" not in config:
            config.setdefault("idp-certificate-authority", certifi.where())


@contextmanager
def _captured_log_errors() -> Iterator[list[str]]:
    complaints = _LogErrors()
    logging.getLogger().addFilter(complaints)
    try:
        yield complaints.messages
    finally:
        logging.getLogger().removeFilter(complaints)


def _object(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}


def _objects(parent: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = parent.get(name)
    # The client's merger wraps each entry in a node that knows its file.
    entries = [getattr(entry, "value", entry) for entry in value] if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _text(parent: Mapping[str, object], name: str) -> str:
    value = parent.get(name)
    return value if isinstance(value, str) else ""
