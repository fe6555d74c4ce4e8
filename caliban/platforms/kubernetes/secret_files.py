"""Credentials files of Kubernetes clients."""

from __future__ import annotations

from caliban.images.secret_files import SecretFiles

SECRET_FILES = SecretFiles(names=frozenset({".kube"}))
