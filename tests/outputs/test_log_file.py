"""The log file of a job: private, bounded, in whole lines, and no reason for a job to fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.outputs.log_file import LogLimits, open_log, write_log
from caliban.outputs.paths import log_path, logs_dir
from caliban.records import JobDetails
from tests.builders import a_job

NAME = "caliban-20200529-105330-01234567"
SMALL = LogLimits(100, 200)
LINES = [b"line %04d\n" % number for number in range(1000)]


class Failures(list[OSError]):
    """Keeps what is reported."""

    def __call__(self, error: OSError) -> None:
        self.append(error)


@pytest.fixture
def failures() -> Failures:
    return Failures()


def path(home: Path) -> Path:
    return logs_dir(home) / f"{NAME}.log"


def write(home: Path, failures: Failures, *pieces: bytes, limits: LogLimits = SMALL) -> bytes:
    log = open_log(home, NAME, limits, failures)
    assert log is not None
    for piece in pieces:
        log.write(piece, is_stderr=False)
    log.close()
    return path(home).read_bytes()


def test_file_and_directory_are_the_users_own(tmp_path: Path, failures: Failures) -> None:
    write(tmp_path, failures, b"x\n")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path(tmp_path), logs_dir(tmp_path))]
    assert modes == [0o600, 0o700]


def test_wider_modes_that_exist_are_narrowed(tmp_path: Path, failures: Failures) -> None:
    logs_dir(tmp_path).mkdir(parents=True, mode=0o755)
    path(tmp_path).touch(mode=0o644)
    write(tmp_path, failures, b"x\n")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path(tmp_path), logs_dir(tmp_path))]
    assert modes == [0o600, 0o700]


def test_output_that_fits_is_there_as_a_whole(tmp_path: Path, failures: Failures) -> None:
    assert write(tmp_path, failures, *LINES[:30]) == b"".join(LINES[:30])


@pytest.mark.parametrize("size", [1, 10, 33, 5000])
def test_of_more_the_first_and_the_last_lines_are_kept(tmp_path: Path, failures: Failures, size: int) -> None:
    data = b"".join(LINES)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    left_out = b"[caliban: 9700 bytes of output were left out here]\n"
    assert write(tmp_path, failures, *pieces) == b"".join([*LINES[:10], left_out, *LINES[-20:]])


def test_while_it_is_written_the_file_is_bounded_and_stays_the_same(tmp_path: Path, failures: Failures) -> None:
    log = open_log(tmp_path, NAME, SMALL, failures)
    assert log is not None
    inode = path(tmp_path).stat().st_ino
    for line in LINES:
        log.write(line, is_stderr=False)
        assert path(tmp_path).stat().st_size <= SMALL.head + 2 * SMALL.tail + 100
    log.close()
    assert path(tmp_path).stat().st_ino == inode


@pytest.mark.parametrize(("head", "tail"), [(0, 50), (50, 0), (0, 1), (1, 0)])
def test_either_part_can_be_left_out(tmp_path: Path, failures: Failures, head: int, tail: int) -> None:
    written = write(tmp_path, failures, *LINES, limits=LogLimits(head, tail))
    kept = written.replace(b"\n", b"").count(b"line")
    assert (kept, written.count(b"left out"), failures) == ((head + tail) // 10, 1, [])


def test_no_file_is_written_where_nothing_is_to_be_kept(tmp_path: Path, failures: Failures) -> None:
    assert open_log(tmp_path, NAME, LogLimits(0, 0), failures) is None
    assert not logs_dir(tmp_path).exists()


def test_both_streams_are_in_the_order_of_arrival_in_whole_lines(tmp_path: Path, failures: Failures) -> None:
    log = open_log(tmp_path, NAME, SMALL, failures)
    assert log is not None
    for data, is_stderr in ((b"a", False), (b"1\n", True), (b"b\n", False), (b"2", True), (b"c", False)):
        log.write(data, is_stderr=is_stderr)
    log.close()
    assert path(tmp_path).read_bytes() == b"1\nab\nc\n2"


def test_a_progress_bar_is_one_line(tmp_path: Path, failures: Failures) -> None:
    assert write(tmp_path, failures, *[b"\r%d%%" % n for n in range(101)], b"\ndone\n") == b"100%\ndone\n"


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda target, link: os.mkfifo(link)])
def test_a_planted_link_is_not_followed(tmp_path: Path, failures: Failures, make: object) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    logs_dir(tmp_path).mkdir(parents=True)
    make(precious, path(tmp_path))  # type: ignore[operator]
    assert open_log(tmp_path, NAME, SMALL, failures) is None
    assert (precious.read_text(), len(failures)) == ("data", 1)


@pytest.mark.parametrize("name", [None, "", "../x", "a/b", ".hidden", "x" * 251, "a\0b", "a\nb"])
def test_a_name_that_is_not_one_of_ours_has_no_file(tmp_path: Path, failures: Failures, name: str | None) -> None:
    assert open_log(tmp_path, name, SMALL, failures) is None
    assert log_path(tmp_path, replace(a_job(), details=JobDetails(display_name=name))) is None


def test_a_file_where_the_directory_should_be_is_reported_once(tmp_path: Path, failures: Failures) -> None:
    (tmp_path / ".caliban").write_text("")
    assert open_log(tmp_path, NAME, SMALL, failures) is None
    assert len(failures) == 1


def test_a_full_disk_ends_the_log_with_one_report(
    tmp_path: Path, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path, NAME, SMALL, failures)
    assert log is not None

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    for line in LINES:
        log.write(line, is_stderr=False)
    log.close()
    assert [error.strerror for error in failures] == ["No space left on device"]


def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path, failures: Failures) -> None:
    log = open_log(tmp_path, NAME, SMALL, failures)
    assert log is not None
    log.write(b"first\n", is_stderr=False)
    assert open_log(tmp_path, NAME, SMALL, failures) is None
    write_log(tmp_path, NAME, SMALL, [(b"second\n", False)], failures)
    log.close()
    assert (path(tmp_path).read_bytes(), failures) == (b"first\n", [])


@pytest.mark.parametrize("before", [[], LINES[:5], LINES[:400], [*LINES, *LINES]])
def test_a_log_is_made_whole_again(tmp_path: Path, failures: Failures, before: list[bytes]) -> None:
    whole = write(tmp_path, failures, *LINES)
    write(tmp_path, failures, *before)
    for _ in range(2):
        write_log(tmp_path, NAME, SMALL, [(line, False) for line in LINES], failures)
        assert path(tmp_path).read_bytes() == whole
    assert [each.name for each in logs_dir(tmp_path).iterdir()] == [path(tmp_path).name]


def test_output_that_cannot_be_read_to_its_end_replaces_nothing(tmp_path: Path, failures: Failures) -> None:
    def broken() -> Iterator[tuple[bytes, bool]]:
        yield b"begin\n", False
        raise ConnectionError("the engine is gone")

    write(tmp_path, failures, b"what there was\n")
    write_log(tmp_path, NAME, SMALL, broken(), failures)
    assert (path(tmp_path).read_bytes(), len(failures)) == (b"what there was\n", 1)


@pytest.mark.parametrize(
    ("value", "size"),
    [("500000", 500_000), ("64K", 65536), ("2m", 2 << 20), ("1 GiB", 1 << 30), ("0", 0), ("", 16 << 20)],
)
def test_the_limits_can_be_set(value: str, size: int) -> None:
    assert LogLimits.from_environ({"CALIBAN_LOG_TAIL": value}, pytest.fail) == LogLimits(1 << 20, size)


@pytest.mark.parametrize("value", ["-1", "much", "1T", "1.5M"])
def test_a_limit_that_is_no_size_is_a_warning(value: str) -> None:
    warnings: list[str] = []
    assert LogLimits.from_environ({"CALIBAN_LOG_HEAD": value}, warnings.append) == LogLimits()
    assert warnings == [f'$CALIBAN_LOG_HEAD: expected a size such as 16M, got "{value}"; 1M is used']
