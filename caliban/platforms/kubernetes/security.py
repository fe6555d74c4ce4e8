"""What the processes of a job may not do: the profile "restricted" of the Pod Security Standards. Pure.

Images that caliban builds run as the user who builds them, by a numeric id (:mod:`caliban.images.dockerfile`), so that
unless that is root, they lose nothing by it.
Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.errors import PlatformError
from caliban.platforms.kubernetes.details import object_at, objects_in
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


def check_image_user(spec: JsonObject) -> None:
    """Check that an image that this process builds would not run as root where the job forbids it.

    Raises:
        PlatformError: ``image-as-root``.
    """
    pod = object_at(spec, "template", "spec")
    contexts = [object_at(each, "securityContext") for each in (pod, *objects_in(pod, "containers"))]
    forbids = any(each.get("runAsNonRoot") is True for each in contexts)
    if not forbids or any("runAsUser" in each for each in contexts) or os.getuid() != 0:
        return
    raise PlatformError(
        "image-as-root",
        "cannot build an image for a job that must not run as root",
        cause="images run as the user who builds them, which is root, and the job has runAsNonRoot",
        hint="run caliban as another user, or submit the job with --run_as_user 1000",
    )
