"""The cluster that this process itself runs in, as a pod, with the service account of the pod.

Sources: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/; k8s.io/client-go, rest/config.go
(InClusterConfig) and tools/clientcmd/client_config.go (inClusterClientConfig).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caliban import input_files
from caliban.platforms.kubernetes.kubeconfig_file import Entry, KubeconfigContent, MalformedFileError, read_text
from caliban.platforms.kubernetes.names import IN_CLUSTER as CONTEXT

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet writes token, CA and namespace; it writes the token again before it expires."""


def with_this_cluster(content: KubeconfigContent | None, environ: Mapping[str, str]) -> KubeconfigContent | None:
    """Return a kubeconfig with a context for the cluster of this pod; it is the current one where there is no other.

    A context of its name in the kubeconfig counts instead.
    """
    own = _content(environ)
    if own is None or content is None:
        return own or content
    return KubeconfigContent(
        content.current or own.current,
        {**own.contexts, **content.contexts} if CONTEXT in content.contexts else {**content.contexts, **own.contexts},
        {**own.clusters, **content.clusters},
        {**own.users, **content.users},
    )


def _is_pod(environ: Mapping[str, str]) -> bool:
    """Return whether this process runs in a pod with a service account."""
    has_address = environ.get("KUBERNETES_SERVICE_HOST") and environ.get("KUBERNETES_SERVICE_PORT")
    return bool(has_address) and input_files.is_file(SERVICE_ACCOUNT / "token")


def _content(environ: Mapping[str, str]) -> KubeconfigContent | None:
    """Return the context, cluster and user of this pod; None outside of one, or without a service account."""
    if not _is_pod(environ):
        return None
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    token, authority = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    cluster = {"server": server, **({"certificate-authority": str(authority)} if authority.is_file() else {})}
    context = {"cluster": CONTEXT, "user": CONTEXT, "namespace": pod_namespace(environ)}
    return KubeconfigContent(
        CONTEXT,
        contexts={CONTEXT: Entry(CONTEXT, context, SERVICE_ACCOUNT)},
        clusters={CONTEXT: Entry(CONTEXT, cluster, SERVICE_ACCOUNT)},
        users={CONTEXT: Entry(CONTEXT, {"tokenFile": str(token)}, SERVICE_ACCOUNT)},
    )


def pod_namespace(environ: Mapping[str, str]) -> str:
    """Return the namespace of this pod, which kubectl uses for contexts without one, too; "" outside of a pod."""
    if not _is_pod(environ):
        return ""
    if environ.get("POD_NAMESPACE"):
        return environ["POD_NAMESPACE"]
    try:
        return (read_text(SERVICE_ACCOUNT / "namespace") or "").strip()
    except MalformedFileError:
        return ""
