"""Who may do what on a cluster, and the kubeconfig files by which one gets there.

Sources: https://kubernetes.io/docs/reference/access-authn-authz/authentication/ and
``staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`` of kubernetes/kubernetes (the words
of a refusal by RBAC); https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import yaml

from tests.standins.kubernetes.certificates import CertificateAuthority
from tests.standins.kubernetes.status import Resource, StatusError, forbidden

_ANONYMOUS = "system:anonymous"
Credential = Literal["token", "certificate"]


class Access:
    """The users of one cluster.

    Attributes:
        tokens: token -> user.
        users: those whose certificate of this cluster's authority is accepted.
        accepts: whether a token of somebody else's issuing is good: Google's, say.
        forbidden: what RBAC refuses everybody: ``jobs.create``.
        impersonators: who may act as another user.
        impersonated: as whom requests acted: name, uid, groups and extra.
    """

    def __init__(self, authority: CertificateAuthority, accepts: Callable[[str], bool] = lambda token: False) -> None:
        self.authority = authority
        self.accepts = accepts
        self.token = secrets.token_urlsafe(24)
        self.tokens = {self.token: "standin"}
        self.users = {"standin"}
        self.forbidden: set[str] = set()
        self.impersonators = {"standin"}
        self.impersonated: list[tuple[str, str, list[str], dict[str, list[str]]]] = []

    def user_of(self, token: str | None, certificate: str | None) -> str:
        """Who is asking: by certificate first, then by token, as the API server does; ``system:anonymous`` by neither.

        Raises:
            StatusError: 401, nobody that is known.
        """
        if certificate is None and token is None:
            return _ANONYMOUS
        if certificate is not None and certificate in self.users:
            return certificate
        if token is not None and token in self.tokens:
            return self.tokens[token]
        if token is not None and self.accepts(token):
            return "standin@example.com"
        raise StatusError(401, "Unauthorized")

    def acting_user(self, user: str, headers: Message) -> str:
        """As whom a user acts by the headers of its request; the words of k8s.io/apiserver, filters/impersonation.

        Raises:
            StatusError: it may not, or does not say as whom.
        """
        given = [(key.lower(), value) for key, value in headers.items() if key.lower().startswith("impersonate-")]
        if not given:
            return user
        name = headers.get("Impersonate-User")
        if not name:
            raise StatusError(500, "Internal error occurred: requested without impersonating a user", reason="")
        if user not in self.impersonators:
            words = f'users "{name}" is forbidden: User "{user}" cannot impersonate resource "users" in API group ""'
            raise StatusError(403, f"{words} at the cluster scope", reason="Forbidden")
        extra: dict[str, list[str]] = {}
        for key, value in given:
            if key.startswith("impersonate-extra-"):
                extra.setdefault(unquote(key.removeprefix("impersonate-extra-")), []).append(value)
        groups = headers.get_all("Impersonate-Group") or []
        self.impersonated.append((name, headers.get("Impersonate-Uid") or "", groups, extra))
        return name

    def check(self, user: str, method: str, resource: Resource, namespace: str, name: str) -> None:
        """Refuse what RBAC does not allow.

        Raises:
            StatusError: 403.
        """
        if method not in self.forbidden and user != _ANONYMOUS:
            return
        verb = method.rpartition(".")[2]
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        words = f'User "{user}" cannot {verb} resource "{resource.plural}" in API group "{resource.group}"{where}'
        raise forbidden(resource, name, words)

    def credential(self, kind: Credential) -> dict[str, str]:
        """The ``user`` of a kubeconfig file."""
        if kind == "token":
            return {"token": self.token}
        pair = self.authority.sign("standin")
        return {
            "client-certificate-data": base64.b64encode(pair.certificate).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }


def add_context(
    path: Path, context: str, *, cluster: Mapping[str, Any], user: Mapping[str, Any], namespace: str | None
) -> Path:
    """Write a context, a cluster and a user of one name to a kubeconfig file; the context is its current one then.

    What else the file holds stays.
    """
    empty = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    content: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else empty
    named = {"cluster": context, "user": context, **({"namespace": namespace} if namespace else {})}
    for group, key, value in (
        ("clusters", "cluster", dict(cluster)),
        ("users", "user", dict(user)),
        ("contexts", "context", named),
    ):
        others = [entry for entry in content[group] if entry["name"] != context]
        content[group] = [*others, {"name": context, key: value}]
    content["current-context"] = context
    path.write_text(yaml.safe_dump(content))
    path.chmod(0o600)
    return path
