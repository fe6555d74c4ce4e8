"""Requirements as ``[tool.uv.sources]`` of a pyproject.toml redirects them: to directories, Git repositories and URLs.

Source: https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from caliban import input_files
from caliban.images.pyproject import MAX_BYTES
from caliban.images.toml import normalized, parse_toml, requirement_name, split_requirement, table, texts
from caliban.input_files import InputFileError, is_dir


def redirected(requirements: Iterable[str], toml: Mapping[str, Any], root: Path) -> list[str]:
    """Return the lines of a requirements file for requirements of a project.

    Args:
        requirements: of the project.
        toml: its pyproject.toml.
        root: its directory.
    """
    sources = {normalized(name): value for name, value in table(toml, "tool", "uv", "sources").items()}
    lines: list[str] = []
    for requirement in requirements:
        value = sources.get(requirement_name(requirement))
        entries = value if isinstance(value, list) else [value]
        found = [line for entry in entries if (line := _line(requirement, entry, toml, root)) is not None]
        lines += found or [requirement]
    return lines


def _line(requirement: str, source: object, toml: Mapping[str, Any], root: Path) -> str | None:
    if not isinstance(source, Mapping):
        return None
    name, extras, rest = split_requirement(requirement)
    marker = rest.partition(";")[2].strip()
    if isinstance(source.get("marker"), str):
        marker = f"({marker}) and ({source['marker']})" if marker else source["marker"]
    ending = f" ; {marker}" if marker else ""
    path = source.get("path")
    if source.get("workspace") is True:
        path = _member(requirement_name(requirement), toml, root)
    if isinstance(path, str):
        editable = "-e " if source.get("editable") is True and not marker else ""
        return f"{editable}{path if path.startswith('/') else './' + path}{extras}{ending}"
    if isinstance(source.get("git"), str):
        url = source["git"] if source["git"].startswith("git+") else f"git+{source['git']}"
        revision = next((source[key] for key in ("rev", "tag", "branch") if isinstance(source.get(key), str)), None)
        at = "" if revision is None else f"@{revision}"
        return f"{name}{extras} @ {url}{at}{_subdirectory(source)}{ending}"
    if isinstance(source.get("url"), str):
        return f"{name}{extras} @ {source['url']}{_subdirectory(source)}{ending}"
    return None  # of an index


def _subdirectory(source: Mapping[str, Any]) -> str:
    value = source.get("subdirectory")
    return f"#subdirectory={value}" if isinstance(value, str) else ""


def _member(name: str, toml: Mapping[str, Any], root: Path) -> str | None:
    """Return the directory of a member of the workspace; None where the project is not its root."""
    for pattern in texts(table(toml, "tool", "uv", "workspace").get("members")):
        for directory in _directories(root, pattern):
            if _project_name(root / directory) == name:
                return directory
    return None


def _directories(root: Path, pattern: str) -> Sequence[str]:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return []
    try:
        return [
            posixpath.normpath(path.relative_to(root).as_posix()) for path in sorted(root.glob(pattern)) if is_dir(path)
        ]
    except (OSError, ValueError, NotImplementedError):
        return []


def _project_name(directory: Path) -> str | None:
    try:
        content = input_files.read_bytes(directory / "pyproject.toml", limit=MAX_BYTES)
        return normalized(str(table(parse_toml(content), "project").get("name", "")))
    except (InputFileError, ValueError):
        return None
