"""What a cluster changes on its host beyond its own files and processes, and how that is undone."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from services.cluster_layout import BRIDGE, NODE_IP
from services.shell import run

PRIVATE_DIRECTORIES = ("/run/netns", "/run/containerd", "/var/log/containers", "/var/lib/cni", "/var/lib/kubelet")
"""Fixed paths of containerd and the kubelet. The components see an empty file system there."""

_SETTINGS = (
    # The kubelet sets these (pkg/kubelet/cm/container_manager_linux.go), the bridge plugin the last one.
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)
_RECORD = "host.json"
_CGROUP_SECONDS = 10


def prepare(directory: Path) -> None:
    """Make the bridge and the mount points, after what is to be undone has been recorded in ``directory``."""
    undo(directory)
    missing = [path for path in PRIVATE_DIRECTORIES if not Path(path).exists()]
    settings = {name: text for name in _SETTINGS if (text := _read(name)) is not None}
    (directory / _RECORD).write_text(json.dumps({"made": missing, "settings": settings}))
    for path in missing:
        Path(path).mkdir(parents=True)
    run(["ip", "link", "add", BRIDGE, "type", "bridge"], f"creating the bridge {BRIDGE}")
    run(["ip", "address", "replace", f"{NODE_IP}/24", "dev", BRIDGE], f"giving {BRIDGE} an address")
    run(["ip", "link", "set", BRIDGE, "up"], f"bringing {BRIDGE} up")


def undo(directory: Path) -> None:
    """Undo what :func:`prepare` and the components did to the host, if anything is recorded in ``directory``."""
    record = directory / _RECORD
    if not record.exists():
        return
    recorded = json.loads(record.read_text())
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    _remove_cgroups()
    for path in reversed(recorded["made"]):
        with suppress(OSError):
            Path(path).rmdir()
    for name, text in recorded["settings"].items():
        # A Docker Engine that was started since then needs forwarding.
        is_needed = name == "net/ipv4/ip_forward" and Path("/sys/class/net/docker0").exists()
        if not is_needed and _read(name) != text:
            (Path("/proc/sys") / name).write_text(text)
    record.unlink()


def foreign_kubelet(directory: Path) -> bool:
    """Return whether a kubelet that is not ours manages pods on this machine."""
    return not (directory / _RECORD).exists() and bool(_pod_cgroups())


def _read(setting: str) -> str | None:
    try:
        return (Path("/proc/sys") / setting).read_text()
    except OSError:
        return None


def _pod_cgroups() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob("kubepods"), *root.glob("*/kubepods")]


def _remove_cgroups() -> None:
    """Remove the pods' control groups, which may take a moment to become empty after their processes have ended."""
    deadline = time.monotonic() + _CGROUP_SECONDS
    while (found := _pod_cgroups()) and time.monotonic() < deadline:
        for top in found:
            below = [path for path in top.rglob("*") if path.is_dir()]
            for path in sorted([top, *below], key=lambda path: len(path.parts), reverse=True):
                with suppress(OSError):
                    path.rmdir()
        time.sleep(0.05)
