"""Logging in with a user of a kubeconfig, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.platforms.kubernetes.test_kubeconfig import kubeconfig

V1 = "client.authentication.k8s.io/v1"


def connect(tmp_path: Path, user: dict[str, Any], **more: Any) -> Any:
    return kubeconfig(tmp_path, "lab", user=user, **more).connection("lab")


def authorization(tmp_path: Path, user: dict[str, Any]) -> str | None:
    found: str | None = connect(tmp_path, user).credentials.current().authorization
    return found
