"""A stand-in for a Kubernetes cluster: its API server over TLS, and the controller that runs its Jobs.

In a test: ``with KubeApi(version="1.33", namespaces={"default"}) as cluster: ...``.
"""

from __future__ import annotations

from tests.standins.kubernetes.admission import Quota, Webhook
from tests.standins.kubernetes.server import KubeApi

__all__ = ["KubeApi", "Quota", "Webhook"]
