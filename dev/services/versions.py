"""Versions of the programs that are compiled from Go modules: the only place that names them."""

from __future__ import annotations

import os

KUBERNETES = os.environ.get("CALIBAN_DEV_KUBERNETES_VERSION") or "1.36.3"
"""Another version can be tested without an edit; 1.34.4 has been tried."""
ETCD = "3.6.16"
CONTAINERD = "2.2.9"
MOBY = "2.0.0-beta.24"
"""Docker Engine 29, API 1.56. Its Go module has a version of its own."""
RUNC = "1.5.2"
FSUTIL = "0.0.0-20260819142231-83cac42c1c52"
PATTERNMATCHER = "0.6.1"
"""What BuildKit 0.33, that of Docker Engine 29, reads ``.dockerignore`` with."""

MINIMUM_GO = (1, 21)
"""From this version on, the go command downloads the toolchain that a module requires."""
