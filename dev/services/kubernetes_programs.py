"""The programs of a one-node Kubernetes: Kubernetes, etcd and containerd from Go modules, the rest from Debian."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from services.debian import unpack
from services.go_build import GoModule, build
from services.versions import CONTAINERD, ETCD, KUBERNETES

CONTAINERD_MODULE = GoModule(
    "containerd",
    "github.com/containerd/containerd/v2",
    CONTAINERD,
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    tags="no_btrfs no_zfs no_devmapper",
)
"""The current Docker Engine uses it as well."""

_ETCD_MODULE = GoModule("etcd", "go.etcd.io/etcd/server/v3", ETCD, {"etcd": "go.etcd.io/etcd/server/v3"})


def kubernetes_module(version: str = KUBERNETES) -> GoModule:
    """Return how Kubernetes of a version is built."""
    minor = version.split(".")[1]
    package = "k8s.io/component-base/version"
    return GoModule(
        "kubernetes",
        "k8s.io/kubernetes",
        version,
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
        },
        variables={
            f"{package}.gitVersion": f"v{version}",
            f"{package}.gitMajor": "1",
            f"{package}.gitMinor": minor,
        },
        make_go_mod=lambda published: go_mod(published, version),
    )


def go_mod(published: str, version: str) -> str:
    """Make a go.mod that builds Kubernetes as a dependency, from the one that it publishes.

    Its own go.mod requires its sibling modules (k8s.io/api, ...) as ``v0.0.0`` and replaces them with directories of
    its repository. A program that depends on it must name the published versions: 1.36.3 goes with v0.36.3.
    """
    staging = f"v0.{version.removeprefix('1.')}"
    lines = ["module caliban.invalid/build"]
    siblings = set()
    for line in published.splitlines():
        if line.startswith("module ") or "=> ./staging" in line:
            continue
        sibling = re.match(r"\s*(?:require\s+)?(k8s\.io/\S+) v0\.0\.0(?=\s|$)", line)
        if sibling:
            siblings.add(sibling[1])
            line = line.replace(" v0.0.0", f" {staging}", 1)
        lines.append(line)
    lines.append(f"require k8s.io/kubernetes v{version}")
    lines += [f"replace {name} => {name} {staging}" for name in sorted(siblings)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Programs:
    """Directories with programs.

    Attributes:
        path: what the PATH starts with, so that these programs find each other.
        cni: the directory of the CNI plugins.
        busybox: a statically linked busybox.
    """

    path: tuple[Path, ...]
    cni: Path
    busybox: Path


def programs() -> Programs:
    """Return all programs; those that are missing are built or downloaded.

    Raises:
        Failure: Go or apt-get is missing, or one of them fails.
    """
    built = [build(module) for module in (_ETCD_MODULE, CONTAINERD_MODULE, kubernetes_module())]
    debian = unpack(["runc", "containernetworking-plugins", "busybox-static"], why="Kubernetes needs a runtime")
    return Programs(
        (*built, debian / "usr" / "sbin", debian / "usr" / "bin"),
        debian / "usr" / "lib" / "cni",
        debian / "bin" / "busybox",
    )
