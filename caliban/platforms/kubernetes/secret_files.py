"""Credentials files of Kubernetes clients."""

from __future__ import annotations

from caliban.images.secret_rules import Rule, SecretFiles, mark, value_of

_SECRETS = (
    *("client-key-data", "client-key", "token", "password", "id-token", "refresh-token", "access-token"),
    "client-secret",
)

SECRET_FILES = SecretFiles(
    rules=(
        Rule(
            "a kubeconfig",
            directories=(".kube",),
            names=("kubeconfig", "kubeconfig.*", "*.kubeconfig", "*-kubeconfig", "k3s.yaml"),
            variables=("KUBECONFIG",),
        ),
        Rule(
            "a kubeconfig",
            text=(
                mark(r"users[\"']?\s{0,20}:", "users"),
                value_of("kind", value=r"config\b"),
                value_of(*_SECRETS),
            ),
        ),
    )
)
