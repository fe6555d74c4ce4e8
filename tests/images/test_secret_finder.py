"""How much of a file the search for credentials reads, and that it ends whatever the file contains."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import ImageError
from caliban.images import secret_finder
from caliban.images.context import collect
from caliban.images.secret_files import GENERIC
from caliban.images.secret_finder import MAX_TEXT, START, START_AFTER_TOTAL, SecretFinder
from caliban.platforms.registry import secret_files

from .helpers import Project
from .secret_samples import PEM, add, gather


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


@pytest.fixture
def other_file(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


@pytest.fixture
def finder() -> SecretFinder:
    return SecretFinder(GENERIC, {})


@pytest.mark.parametrize(
    ("start", "size", "read"),
    [
        (b"text", 10, 10),
        (b"text", START + 1, START + 1),
        (b"text", 100 * MAX_TEXT, MAX_TEXT),
        (b"\x93NUMPY\x01\x00", 100 * MAX_TEXT, START),
    ],
)
def test_a_file_is_read_to_a_limit(finder: SecretFinder, other_file: Path, start: bytes, size: int, read: int) -> None:
    with other_file.open("wb") as file:
        file.write(start)
        file.truncate(size)
    assert (finder.find_file(other_file, "x"), finder.bytes_read) == (None, read)


def test_a_project_is_read_to_a_limit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_finder, "MAX_TOTAL", 2 * START_AFTER_TOTAL)
    for name in "abcdef":
        add(project, name, b"text" * START_AFTER_TOTAL)
    add(project, "z", PEM)
    context = gather(project)
    assert context.credentials.keys() == {"z"}
    (line,) = [warning for warning in context.warnings() if "beginnings" in warning]
    assert line.startswith("only the beginnings of 5 files were searched for credentials")


def test_what_its_name_decides_is_not_read(finder: SecretFinder, other_file: Path) -> None:
    path = other_file.with_name(".env")
    path.write_text("A=1")
    assert (finder.find_file(path, ".env"), finder.bytes_read) == ("environment variables with secrets", 0)


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN " * 90_000,
        b"-----BEGIN PRIVATE KEY-----" + b" " * 10**6,
        b"machine " * 120_000,
        b"\\" * 10**6,
        b"A" * 10**6,
        b"AAAA " * 200_000,
        b'"password": ' * 80_000,
        b"\n" * 10**6,
        b"://" + b"a:" * 500_000,
        b"-" * 10**6,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_the_search_of_any_content_ends(finder: SecretFinder, other_file: Path, content: bytes) -> None:
    """A pattern that backtracks would need hours."""
    other_file.write_bytes(content)
    finder.find_file(other_file.with_name("elsewhere"), "credentials.json")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_content_is_searched_without_an_error(content: bytes) -> None:
    secret_finder.SecretFinder(secret_files(), {})._by_content(Path("credentials"), content)


@pytest.mark.parametrize(
    ("line", "is_reported"),
    [
        ("--extra-index-url https://me:secret@pypi.example.com/simple", True),
        ("lab @ git+https://0123456789abcdef0123456789@git.example.com/lab.git", True),
        ("--extra-index-url https://${USER}:${TOKEN}@pypi.example.com/simple", False),
        ("lab @ git+ssh://git@git.example.com/lab.git", False),
        ("numpy", False),
    ],
)
@pytest.mark.parametrize("name", ["requirements.txt", "environment.yml"])
def test_a_password_in_a_file_of_dependencies_is_reported(
    project: Project, name: str, line: str, is_reported: bool
) -> None:
    project.write(name, line + "\n")
    expected = [f"{name} has a URL with a password or token, which becomes part of the image"]
    assert gather(project).warnings() == (expected if is_reported else [])


@pytest.mark.parametrize("name", ["requirements.txt", "environment.yml"])
def test_a_file_of_dependencies_with_credentials_is_an_error(project: Project, name: str) -> None:
    project.write(name, "lab @ git+https://ghp_" + "A1" * 18 + "@git.example.com/lab.git\n")
    with pytest.raises(ImageError) as caught:
        gather(project)
    assert caught.value.id == "dependency-file-is-credential"
    assert f'add "{name}" to "include_credentials"' in (caught.value.hint or "")


def test_a_script_with_credentials_is_an_error_that_says_so(project: Project) -> None:
    project.write("run.sh", "export HF_TOKEN=hf_" + "Ab1" * 12 + "\n")
    with pytest.raises(ImageError, match=r"run\.sh is not copied: it is an access token") as caught:
        collect(project.spec("run.sh"), "FROM x\n", {}, secret_files())
    assert caught.value.id == "script-ignored"
