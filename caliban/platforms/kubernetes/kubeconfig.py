"""The contexts of a kubeconfig, and how to connect to the cluster of each. The client is imported when one is used.

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
from caliban.platforms.kubernetes.details import object_at
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

    Attributes:
        location: the files, as ``$KUBECONFIG`` lists them.
    """

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.location = environ.get(VARIABLE) or str(home / _DEFAULT_FILE)

    @property
    def exists(self) -> bool:
        """Whether any of the files exists."""
        return any(Path(part).expanduser().is_file() for part in self.location.split(os.pathsep) if part)

    def contexts(self) -> list[KubeContext]:
        """Return all contexts, in their order; [] without a file.

        Raises:
            UsageError: ``kubeconfig-malformed``.
        """
        if not self.exists:
            return []
        content: Mapping[str, object] = self._content().value
        servers = {
            _text(entry, "name"): _text(object_at(entry, "cluster"), "server")
            for entry in _entries(content, "clusters")
        }
        current = _text(content, "current-context")
        found = []
        for entry in _entries(content, "contexts"):
            context, name = object_at(entry, "context"), _text(entry, "name")
            cluster = _text(context, "cluster")
            namespace = _text(context, "namespace") or DEFAULT_NAMESPACE
            found.append(KubeContext(name, cluster, servers.get(cluster, ""), namespace, name == current))
        return found

    def context(self, name: str | None) -> KubeContext:
        """Return the context of that name, or the current one.

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
                "no cluster is selected",
                cause=f"{self.location} has no current context" if self.exists else f"file not found: {self.location}",
                hint="choose a context with --context"
                + (f" ({', '.join(names)})" if names else "")
                + ", or a GKE cluster with --cluster_name",
            )
        if not names:
            hint = f"set ${VARIABLE} to another file, or choose a GKE cluster with --cluster_name"
            raise UsageError("unknown-context", f'unknown context "{name}": {self.location} has no contexts', hint=hint)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the contexts are {', '.join(names)}"
        raise UsageError("unknown-context", f'{self.location} has no context "{name}"', hint=hint)

    def configuration(self, name: str) -> Configuration:
        """Return how to connect to the cluster of a context. The kubeconfig is never written.

        Credential plugins are run. Credentials that expire are refreshed when a request is sent, which may then raise
        KubernetesUnreachableError, too.

        Raises:
            UsageError: ``unknown-context``, ``kubeconfig-malformed``, ``kubeconfig-insecure``.
            KubernetesUnreachableError: there are no credentials.
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
        refresh = made.refresh_api_key_hook

        def refresh_and_report(made: Any) -> None:  # noqa: ANN401 - not all versions of the client have types
            try:
                self._log_in(context, lambda: refresh(made))
            finally:
                made.refresh_api_key_hook = refresh_and_report  # the client's hook installs itself again

        if refresh is not None:
            made.refresh_api_key_hook = refresh_and_report
        configuration: Configuration = made
        return configuration

    def _log_in(self, context: KubeContext, log_in: Callable[[], None]) -> None:
        """Log in, and raise the errors that the client raises or only logs."""
        from google.auth.exceptions import GoogleAuthError
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from oauthlib.oauth2 import OAuth2Error  # type: ignore[import-untyped]  # used by the client for OIDC
        from urllib3.exceptions import HTTPError

        with _captured_log_errors() as messages:
            try:
                log_in()
            except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                cause = _without_content(str(error)) or type(error).__name__
                raise self._malformed(f"the context {context.name}: {cause}") from error
            except (GoogleAuthError, ApiException, HTTPError, OAuth2Error) as error:  # of users with an auth-provider
                messages.append(str(error))
        if messages:
            raise KubernetesUnreachableError(
                f"cannot get credentials for the cluster of the context {context.name}",
                "\n".join(messages),
                f"log in to the cluster again, and check with: kubectl --context {context.name} get jobs",
                is_transient=False,
                outcome_unknown=False,
            )

    def _check_server(self, context: KubeContext) -> None:
        """Require TLS, except for a proxy on this machine such as ``kubectl proxy``."""
        parts = urlsplit(context.server)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise UsageError(
                "kubeconfig-insecure",
                f"the server of the context {context.name} is not an https URL",
                cause=f"server: {context.server or 'none'}",
                hint=f"correct the cluster {context.cluster} in {self.location}",
            )

    def _content(self) -> Any:  # noqa: ANN401 - a class of the client, which knows the file of each entry
        import yaml
        from kubernetes.config import ConfigException
        from kubernetes.config.kube_config import KubeConfigMerger

        merge: Any = KubeConfigMerger
        try:
            merger = merge(self.location)
        except (ConfigException, OSError, UnicodeDecodeError, TypeError, AttributeError, KeyError) as error:
            raise self._malformed(_without_content(str(error)) or type(error).__name__) from error
        except yaml.YAMLError as error:
            # The parser's message has the lines around the error, which may hold a token.
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise self._malformed(f"invalid YAML{line}") from None
        if not isinstance(getattr(merger.config, "value", None), Mapping):
            raise self._malformed("the file is empty")
        # As in kubectl, the first file with a current context wins; the client takes that of the last one.
        named = (_text(content, "current-context") for content in merger.config_files.values())
        merger.config.value["current-context"] = next(filter(None, named), "")
        return merger.config

    def _malformed(self, cause: str) -> UsageError:
        return UsageError(
            "kubeconfig-malformed",
            f"malformed kubeconfig: {self.location}",
            cause=cause,
            hint="check it with: kubectl config view",
        )


class _LogErrors(logging.Filter):
    """Collects the errors of a login that the client only logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.module != "kube_config" or record.levelno < logging.ERROR:
            return True
        self.messages.append(record.getMessage())
        return False


@contextmanager
def _captured_log_errors() -> Iterator[list[str]]:
    log_errors = _LogErrors()
    logging.getLogger().addFilter(log_errors)
    try:
        yield log_errors.messages
    finally:
        logging.getLogger().removeFilter(log_errors)


def _without_content(message: str) -> str:
    """Return a message of the client without the content of the file that it repeats, which may be a token."""
    return re.sub(r"\{.*\}", "...", message, flags=re.DOTALL)


def _verify_issuers(content: Any) -> None:  # noqa: ANN401 - see :meth:`Kubeconfig._content`
    """Make the client verify the certificates of OIDC issuers: it does not where the kubeconfig names no CA of theirs.

    They are sent secrets.
    """
    import certifi

    for entry in _entries(content.value, "users"):
        config = object_at(entry, "user", "auth-provider").get("config")
        if isinstance(config, dict) and "idp-certificate-authority-data" not in config:
            config.setdefault("idp-certificate-authority", certifi.where())


def _entries(content: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = content.get(name)
    # The client wraps each entry in a node that knows its file.
    entries = [getattr(entry, "value", entry) for entry in value] if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _text(parent: Mapping[str, object], name: str) -> str:
    value = parent.get(name)
    return value if isinstance(value, str) else ""
