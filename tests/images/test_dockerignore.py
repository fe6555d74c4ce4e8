from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import ImageError
from caliban.images import dockerignore
from caliban.images.context import paths_sent
from caliban.images.dockerignore import Ignored

TABLE = json.loads((Path(__file__).parents[1] / "data" / "dockerignore.json").read_text("utf-8"))
"""What BuildKit sends of a project for each content of the file, as recorded by ``make test-dockerignore``."""


def ignored(*patterns: str) -> Ignored:
    return Ignored(patterns)


def sent(root: Path, content: bytes) -> list[str] | None:
    """Return what is sent of a project, or None where the file is invalid."""
    try:
        return sorted(paths_sent(root, Ignored.parse(content)))
    except ImageError as error:
        return None if error.id == "dockerignore-malformed" else [error.id]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name in TABLE["files"]:
        place = root / name
        (place if name.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            place.touch()
    return root


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: repr(case["ignore"]))
def test_files_are_excluded_as_by_buildkit(files: Path, case: dict[str, Any]) -> None:
    assert sent(files, case["ignore"].encode()) == case["kept"]


def test_a_pattern_that_buildkit_rejects_is_an_error_with_its_text() -> None:
    with pytest.raises(ImageError) as caught:
        ignored("a.py", "data\\processed").excludes("x")
    assert (caught.value.message, caught.value.cause) == (
        r'invalid pattern in .dockerignore: "data\processed"',
        r'invalid escape "\p"; use "/" between directories',
    )


def test_a_directory_that_no_pattern_can_include_is_not_entered(files: Path) -> None:
    """BuildKit enters it only where a pattern with ! has a wildcard, or begins with its name."""
    entered = [ignored("*", pattern).may_include_below("data") for pattern in ("!src/x.py", "!data/1", "!**/*.py")]
    assert entered == [False, True, True]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "*b", "a" * 250),
        ("**/" * 30 + "b", "a/" * 1000 + "c"),
        ("**/*" * 30 + "b", "a/" * 1000 + "c"),
        ("a**" * 30 + "b", "a" * 4000),
        ("*?" * 60 + "[^a]", "a" * 250),
        ("a*|" * 60 + "b*", "c" * 250),
    ],
)
def test_the_cost_of_a_pattern_is_its_length(pattern: str, path: str) -> None:
    """A matcher that backtracks would never end here."""
    assert not ignored(pattern).excludes(path)


@pytest.mark.parametrize("name", ["a\nb", "é", "日本", os.fsdecode(b"\xe9")])
def test_any_name_is_matched(name: str) -> None:
    assert [ignored(pattern).excludes(f"x/{name}") for pattern in ("x/*", f"**/{name}", "x/?", "y/*")] == [
        True,
        True,
        len(name) == 1,
        False,
    ]


def test_names_that_are_not_utf_8_windows_lines_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes(b"\xef\xbb\xbf# why\r\nlatin-\xe9\r\n\r\n *.log \r\n")
    read = Ignored.read(tmp_path)
    found = [read.excludes(name) for name in (os.fsdecode(b"latin-\xe9"), "a.log", "# why", "a")]
    assert found == [True, True, False, False]


def test_without_a_file_only_the_defaults_are_excluded(tmp_path: Path) -> None:
    read = Ignored.read(tmp_path)
    found = [read.excludes(name) for name in (".git", "a/.git/x", ".caliban", "a/__pycache__", "a.py")]
    assert found == [True, True, True, True, False]


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "loop", "large", "UTF-16"])
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".dockerignore"
    make: dict[str, Callable[[], object]] = {
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path),
        "large": lambda: path.write_text("a\n" * dockerignore.MAX_BYTES),
        "UTF-16": lambda: path.write_text("a", encoding="utf-16"),
    }
    make[kind]()
    with pytest.raises(ImageError, match=r"^cannot read \.dockerignore$") as caught:
        Ignored.read(tmp_path)
    assert (caught.value.id, bool(caught.value.cause), bool(caught.value.hint)) == ("context-unreadable", True, True)
