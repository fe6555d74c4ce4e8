"""Read conda's file: what its ``pip`` section names of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from caliban import input_files
from caliban.images.requirements import MAX_BYTES, Requirements, read_requirements

_Document: TypeAlias = "dict[str, Any]"


def read_conda_file(root: Path, name: str) -> tuple[Requirements, bytes | None]:
    """Read conda's file and the requirements files that it names.

    Args:
        root: the project.
        name: the file, relative to the project.

    Returns:
        What pip needs, and the content of the file without the projects that pip builds; None where it has none.

    Raises:
        InputFileError: a file cannot be read.
    """
    import yaml

    text = input_files.decode(input_files.read_bytes(root / name, limit=MAX_BYTES), name, "replace")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return Requirements(files=[name]), None  # conda reports it
    lines = _pip_lines(document)
    found = read_requirements(root, name, _placed(lines, text))
    found.filtered.pop(name, None)
    own = [each for each in found.projects if each.source == name]
    if not own:
        return found, None
    return found, yaml.safe_dump(_without(document, {each.text for each in own}), sort_keys=False).encode()


def _pip_lines(document: object) -> list[str]:
    dependencies = document.get("dependencies") if isinstance(document, dict) else None
    dependencies = dependencies if isinstance(dependencies, list) else []
    sections = [each["pip"] for each in dependencies if isinstance(each, dict) and isinstance(each.get("pip"), list)]
    return [line for section in sections for line in section if isinstance(line, str)]


def _placed(lines: list[str], text: str) -> str:
    """Return the lines as a requirements file in which each has the number that it has in conda's file."""
    placed = [""] * (text.count("\n") + 1)
    numbered = list(enumerate(text.split("\n")))
    for line in lines:
        number = next((number for number, whole in numbered if line in whole and not placed[number]), None)
        if number is None:
            placed.append(line)
        else:
            placed[number] = line
    return "\n".join(placed)


def _without(document: _Document, removed: set[str]) -> _Document:
    dependencies = []
    for each in document["dependencies"]:
        if isinstance(each, dict) and isinstance(each.get("pip"), list):
            kept = [line for line in each["pip"] if not isinstance(line, str) or line.strip() not in removed]
            each = {**each, "pip": kept} if kept else {key: value for key, value in each.items() if key != "pip"}
        if each != {}:
            dependencies.append(each)
    return {**document, "dependencies": dependencies}
