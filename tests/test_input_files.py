"""Files of users: whatever is at a path, reading it ends, is bounded, and fails with a message that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban import input_files
from caliban.errors import ImageError
from caliban.input_files import MIB, InputFileError, read_bytes, read_start, read_text
from tests.sockets import make_socket


def failure(path: Path | str, limit: int = MIB) -> InputFileError:
    with pytest.raises(InputFileError) as caught:
        read_text(path, limit=limit)
    assert caught.value.hint
    return caught.value


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", ""), (b"a\r\nb\rc\n", "a\nb\nc\n"), (b"\xef\xbb\xbfa", "a"), ("é\0".encode(), "é\0")],
)
def test_text_is_read_without_byte_order_mark_and_with_newlines(tmp_path: Path, content: bytes, text: str) -> None:
    assert read_text(write(tmp_path / "x", content)) == text


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    write(tmp_path / "file", b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == b"x"


def test_a_link_is_not_read_where_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "file", b"x")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(InputFileError) as caught:
        read_start(tmp_path / "link", 1, follow_links=False)
    assert (caught.value.id, caught.value.cause) == ("not-a-file", "it is a link")


def test_only_the_start_of_a_large_file_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 * 1024**4)
    assert read_start(tmp_path / "sparse", 3) == b"\0\0\0"


@pytest.mark.parametrize(("size", "fits"), [(1024, True), (1025, False)])
def test_a_file_has_a_size_limit(tmp_path: Path, size: int, fits: bool) -> None:
    path = write(tmp_path / "x", b"a" * size)
    if fits:
        assert len(read_bytes(path, limit=1024)) == size
    else:
        error = failure(path, 1024)
        assert (error.id, error.cause) == ("file-too-large", "larger than 1 KiB")


def test_a_file_that_grows_while_it_is_read_is_read_to_the_limit_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x", b"a")
    check = input_files._check_kind

    def grow(found: os.stat_result, name: input_files.AnyPath) -> None:
        check(found, name)
        write(path, b"a" * 5000)

    monkeypatch.setattr(input_files, "_check_kind", grow)
    assert failure(path, 1024).id == "file-too-large"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("directory", "it is a directory"),
        ("pipe", "it is a named pipe"),
        ("socket", "it is a socket"),
        ("zero", "it is a character device"),
        ("/dev/zero", "it is a character device"),
        ("link-to-pipe", "it is a named pipe"),
    ],
)
def test_what_is_not_a_regular_file_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cause: str
) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    make_socket(tmp_path / "socket")
    monkeypatch.setattr(os, "open", pytest.fail)
    error = failure(tmp_path / name)
    assert (error.id, error.cause) == ("not-a-file", cause)


def test_a_file_that_becomes_a_pipe_between_check_and_opening_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x", b"a")
    check = input_files._check_kind

    def replace(found: os.stat_result, name: input_files.AnyPath) -> None:
        check(found, name)
        path.unlink()
        os.mkfifo(path)

    monkeypatch.setattr(input_files, "_check_kind", replace)
    assert failure(path).cause == "it is a named pipe"


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("missing", "file-not-found"),
        ("file/below", "file-not-found"),
        ("broken", "broken-link"),
        ("loop", "link-loop"),
        ("x" * 256, "path-too-long"),
        ("x/" * 3000, "path-too-long"),
        ("a\0b", "invalid-path"),
        ("\ud800", "invalid-path"),
    ],
)
def test_a_path_without_a_file_has_an_error_of_its_own(tmp_path: Path, name: str, id: str) -> None:
    write(tmp_path / "file", b"")
    (tmp_path / "broken").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    error = failure(f"{tmp_path}/{name}")
    assert (error.id, error.is_missing) == (id, id == "file-not-found")
    assert len(error.message) < 300


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    assert read_bytes(write(tmp_path / os.fsdecode(b"\xe9"), b"x")) == b"x"


def test_a_permission_error_says_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    error = failure(write(tmp_path / "x", b""))
    assert (error.id, error.cause) == ("file-unreadable", "Permission denied")


def test_a_regular_file_that_would_block_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x", b"")
    monkeypatch.setattr(os, "fdopen", lambda *_, **__: Blocking())
    monkeypatch.setattr(os, "fstat", lambda _: path.stat())
    assert failure(path).cause == "reading it would block"


class Blocking:
    """A file in non-blocking mode without data, such as /proc/kmsg."""

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def fileno(self) -> int:
        return 0

    def read(self, size: int) -> None:
        return None


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"a\nb\xff", "invalid UTF-8 in line 2"),
        ("a".encode("utf-16"), "UTF-16 or UTF-32 text"),
        ("a".encode("utf-32"), "UTF-16 or UTF-32 text"),
    ],
)
def test_other_encodings_are_an_error(tmp_path: Path, content: bytes, cause: str) -> None:
    error = failure(write(tmp_path / "x", content))
    assert (error.id, error.cause, error.hint) == ("not-utf-8", cause, "save the file as UTF-8")


def test_a_caller_says_what_the_file_was_for(tmp_path: Path) -> None:
    error = failure(tmp_path / "x").translated(ImageError, "context-unreadable", "cannot read the build context")
    assert isinstance(error, ImageError)
    assert (error.id, error.cause, error.hint) == ("context-unreadable", "No such file or directory", "check the path")


@pytest.mark.parametrize(
    ("name", "inside"),
    [("file", True), ("in", True), ("out", False), ("loop", True), ("a\0b", False), ("\ud800", False), ("..", False)],
)
def test_links_are_resolved_to_say_what_is_inside_a_directory(tmp_path: Path, name: str, inside: bool) -> None:
    (tmp_path / "in").symlink_to("file")
    (tmp_path / "out").symlink_to("/etc/hosts")
    (tmp_path / "loop").symlink_to("loop")
    assert input_files.is_inside(f"{tmp_path}/{name}", tmp_path) is inside


@pytest.mark.parametrize("name", ["missing", "x" * 300, "a\0b", "\ud800", "loop", "pipe"])
def test_what_cannot_be_a_file_or_directory_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    path = f"{tmp_path}/{name}"
    assert (input_files.is_file(path), input_files.is_dir(path)) == (False, False)
