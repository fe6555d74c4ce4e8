"""What the processes of a job may not do: the profile "restricted" of the Pod Security Standards. Pure.

Images that caliban builds run as the user who builds them, by a numeric id (:mod:`caliban.images.dockerfile`), so that
unless that is root, they lose nothing by it.
Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms.kubernetes.details import object_at
from caliban.records import JsonObject

CONTAINER_CONTEXT: Mapping[str, object] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""``securityContext`` of a restricted container."""

_ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True)
class Security:
    """The restricted profile.

    Attributes:
        user: the user id that the job runs as; None for that of the image, which must not be root.
    """

    user: int | None = None

    @property
    def pod_context(self) -> dict[str, object]:
        """``securityContext`` of the pod."""
        user = {} if self.user is None else {"runAsUser": self.user}
        return {"runAsNonRoot": True, **user, "seccompProfile": {"type": "RuntimeDefault"}}


def enforces_restricted(namespace: JsonObject) -> bool:
    """Return whether a namespace accepts restricted pods only.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces
    """
    return object_at(namespace, "metadata", "labels").get(_ENFORCE_LABEL) == "restricted"


def builds_root_image(spec: JsonObject) -> bool:
    """Return whether an image that this process builds would run as root, which the job spec forbids."""
    contexts = [object_at(spec, "template", "spec", "securityContext")]
    pod = object_at(spec, "template", "spec").get("containers")
    contexts += (
        [object_at(each, "securityContext") for each in pod if isinstance(each, Mapping)]
        if isinstance(pod, list)
        else []
    )
    forbids = any(each.get("runAsNonRoot") is True for each in contexts)
    return forbids and not any("runAsUser" in each for each in contexts) and os.getuid() == 0
