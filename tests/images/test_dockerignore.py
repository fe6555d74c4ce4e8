from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker.utils.build import PatternMatcher
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import ImageError
from caliban.images import dockerignore
from caliban.images.dockerignore import Ignored

NAMES = st.text(alphabet="aAb.-", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.sampled_from(["a", "b", "B", ".", "-", "/", "*", "**", "**/", "?", "[ab]", "[!a]", "[a-b]", "[", "]", ".."]),
    min_size=1,
    max_size=7,
).map("".join)


def ignored(*patterns: str) -> Ignored:
    return Ignored(iter(patterns))


@given(st.lists(st.tuples(st.booleans(), PATTERNS), min_size=1, max_size=4), PATHS)
def test_patterns_mean_what_they_mean_to_docker_py(patterns: list[tuple[bool, str]], path: str) -> None:
    lines = [f"{'!' if includes else ''}{pattern}" for includes, pattern in patterns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matcher: Any = PatternMatcher
        expected = matcher(lines).matches(path)
    assert ignored(*lines).excludes(path) == expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "*b", "a" * 250),
        ("**/" * 30 + "b", "a/" * 1000 + "c"),
        ("**/*" * 30 + "b", "a/" * 1000 + "c"),
        ("a**" * 30 + "b", "a" * 4000),
        ("*?" * 60 + "[!a]", "a" * 250),
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
