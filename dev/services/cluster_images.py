"""The images of a cluster of ours, made of Debian's static busybox, as an archive in the form of ``docker save``."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import IO

TEST_IMAGE = "docker.io/caliban/test:1"
"""Its entrypoint is sh."""
PAUSE_IMAGE = "docker.io/caliban/pause:1"
"""What holds a pod's network namespace."""

_APPLETS = (
    *("cat", "dd", "env", "false", "head", "id", "ls", "mkdir", "printenv", "rm"),
    *("seq", "sh", "sleep", "tail", "test", "touch", "true", "wc", "yes"),
)
_PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
_ENTRYPOINTS = {TEST_IMAGE: ["/bin/sh"], PAUSE_IMAGE: ["/bin/sh", "-c", _PAUSE]}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_images(busybox: Path, target: IO[bytes]) -> None:
    """Write an archive of both images.

    Args:
        busybox: a statically linked program.
        target: need not be seekable.
    """
    layer = _layer(busybox.read_bytes())
    manifest = []
    with tarfile.open(fileobj=target, mode="w|") as archive:
        _add(archive, "layer.tar", layer)
        for number, (tag, entrypoint) in enumerate(_ENTRYPOINTS.items()):
            config = {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"], "WorkingDir": "/"},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            }
            _add(archive, f"config-{number}.json", json.dumps(config).encode())
            manifest.append({"Config": f"config-{number}.json", "RepoTags": [tag], "Layers": ["layer.tar"]})
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(busybox: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            layer.addfile(directory)
        _add(layer, "bin/busybox", busybox, 0o755)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
