"""The image that containers are built on: bookworm with Python, pip and apt-get that work as on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

from services.cache import cache_directory, locked
from services.debian import (
    apt_settings,
    bookworm_sources,
    find_program,
    install,
    own_certificates,
    pip_settings,
)
from services.engine import Engine
from services.engine_api import EngineRefusal
from services.guard import ADDED, BASE_REPOSITORY
from services.shell import run, say

OFFICIAL_IMAGE = "python:3.11-slim-bookworm"
PULL_PATIENCE_SECONDS = 20

_PACKAGES = "python3,python3-pip,python3-venv,python-is-python3,ca-certificates"
_CERTIFICATES = "usr/local/share/ca-certificates"
_RECIPE = "2"
"""To be counted up when the image comes out otherwise from the same files."""


def machine_files() -> dict[str, str]:
    """Give what an image must have of this machine to reach package indexes: path from the root -> text."""
    files = {"etc/pip.conf": pip_settings()}
    settings = apt_settings()
    if settings:
        files["etc/apt/apt.conf.d/90machine"] = settings
    for name, certificate in own_certificates():
        files[f"{_CERTIFICATES}/{name}"] = certificate
    return files


def base_image(engine: Engine) -> str:
    """Give the name of the base image; it is made when the engine has none.

    Raises:
        Failure: none can be pulled and none can be made.
    """
    files = machine_files()
    archive = archive_path(files)
    name = f"{BASE_REPOSITORY}:bookworm-{_digest(archive.name + engine.label)}"
    with locked(engine.directory / "image.lock", waiting="another run is making the base image"):
        if not engine.api.has_image(name):
            started = time.monotonic()
            if not archive.exists() and _pulled(engine, name, files):
                return name
            with locked(cache_directory() / "archive.lock", waiting="another run is making the base image"):
                if not archive.exists():
                    _make_archive(archive, files)
            repository, tag = name.split(":")
            changes = [f"LABEL {engine.label}", 'CMD ["python3"]']
            engine.api.import_image(archive, repository, tag, changes)
            say(f"base image: {name}, in {time.monotonic() - started:.0f} s")
    return name


def archive_path(files: dict[str, str]) -> Path:
    """Give the place in the cache directory of a root file system with these files; its name says what is in it."""
    recipe = repr((_RECIPE, _PACKAGES, bookworm_sources(), sorted(files.items())))
    return cache_directory() / f"base-{_digest(recipe)}.tar"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _pulled(engine: Engine, name: str, files: dict[str, str]) -> bool:
    official = os.environ.get("CALIBAN_DEV_OFFICIAL_IMAGE") or OFFICIAL_IMAGE
    if not engine.api.has_image(official):
        say(f"base image: trying to pull {official}")
        try:
            engine.api.pull(official, patience=PULL_PATIENCE_SECONDS)
        except (OSError, EngineRefusal) as error:
            say(f"base image: it cannot be pulled ({str(error).strip()}), so one is made here")
            return False
        with (engine.directory / ADDED).open("a") as added:
            added.write(f"{official}\n")
    label_name, label_value = engine.label.split("=")
    dockerfile = f"FROM {official}\nLABEL {label_name}={label_value}\nCOPY machine /\n"
    if any(path.startswith(_CERTIFICATES) for path in files):
        dockerfile += "RUN update-ca-certificates\n"
    context = {"Dockerfile": dockerfile, **{f"machine/{path}": text for path, text in files.items()}}
    engine.api.build(_tar(context), name)
    say(f"base image: {name}, from {official}")
    return True


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _make_archive(archive: Path, files: dict[str, str]) -> None:
    """Make a root file system with mmdebstrap: smaller than debootstrap's, and in less time."""
    if find_program("mmdebstrap") is None:
        install(["mmdebstrap", "debian-archive-keyring", "ca-certificates"], why="no base image can be pulled")
    say("base image: making a root file system with mmdebstrap (about 40 s, once)")
    for old in archive.parent.glob("base-*.tar"):
        old.unlink()
    partial = archive.with_suffix(".partial")
    with tempfile.TemporaryDirectory(prefix="caliban-dev-base-") as directory:
        uploads = []
        for number, (path, text) in enumerate(files.items()):
            file = Path(directory) / str(number)
            file.write_text(text)
            uploads.append(f"--customize-hook=upload {file} /{path}")
        arguments = [str(partial)]
        sources = bookworm_sources()
        if sources:
            file = Path(directory) / ("machine.sources" if "Types:" in sources else "machine.list")
            file.write_text(sources)
            arguments.append(str(file))
        run(
            _mmdebstrap(uploads, arguments),
            "making a root file system with mmdebstrap",
            hint="it needs root, or user namespaces, and Debian's package index",
        )
    partial.rename(archive)


def _mmdebstrap(uploads: list[str], arguments: list[str]) -> list[str]:
    return [
        find_program("mmdebstrap") or "mmdebstrap",
        "--variant=minbase",
        "--format=tar",
        f"--include={_PACKAGES}",
        *[f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")],
        '--aptopt=Acquire::Languages "none"',
        # The image is nobody's system: pip may install into it, as in the official Python images.
        '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        *uploads,
        '--customize-hook=chroot "$1" update-ca-certificates',
        "bookworm",
        *arguments,
    ]
