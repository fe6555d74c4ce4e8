"""Credentials files of Kubernetes clients."""

from __future__ import annotations

import re

from caliban.images.secret_rules import Rule, SecretFiles

_SECRETS = rb"client-key-data|client-key|token|password|id-token|refresh-token|access-token|client-secret"

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
                re.compile(rb"""\bkind\b["']?\s{0,20}:\s{0,20}["']?Config\b"""),
                re.compile(rb"""\busers\b["']?\s{0,20}:"""),
                re.compile(rb"""\b(?:""" + _SECRETS + rb""")["']?\s{0,20}:\s{0,20}["']?[^\s"']"""),
            ),
        ),
    )
)
