"""Lines of ours, progress bars and the output of jobs on one terminal: each on rows of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from caliban.cli.console import Console

BAR = re.compile(r"^jobs: .*\|")


@dataclass
class Window:
    """A pseudo-terminal, and the console of a process whose standard output and standard error it is."""

    user: int
    console: Console

    def written(self) -> str:
        read = b""
        while select.select([self.user], [], [], 0.1)[0]:
            read += os.read(self.user, 65536)
        return read.decode()

    def rows(self) -> list[str]:
        """Return what a person sees: a carriage return goes back to the first column, and what follows replaces."""
        rows = []
        for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.written()).split("\n"):
            row: list[str] = []
            for part in line.split("\r"):
                row[: len(part)] = part
            rows.append("".join(row).rstrip())
        return rows


@pytest.fixture
def window() -> Iterator[Window]:
    user, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with (
        os.fdopen(program, "r", closefd=False) as stdin,
        os.fdopen(program, "w", closefd=False) as stdout,
        os.fdopen(program, "w", closefd=False) as stderr,
    ):
        yield Window(user, Console(stdin, stdout, stderr))
    os.close(program)
    os.close(user)


@pytest.mark.parametrize("is_stderr", [False, True])
def test_a_bar_is_not_drawn_into_an_unfinished_line_of_a_job(window: Window, is_stderr: bool) -> None:
    with window.console.progress("jobs", total=3, unit="job") as progress:
        window.console.job_output(b"epoch 1 ", is_stderr=is_stderr)
        progress.advance()
        progress.note("cpu.py")
        window.console.job_output(b"loss 0.5", is_stderr=is_stderr)
    assert window.rows() == ["epoch 1 loss 0.5", ""]


def test_a_bar_comes_back_after_the_line_of_the_job(window: Window) -> None:
    with window.console.progress("jobs", total=3, unit="job") as progress:
        window.console.job_output(b"half", is_stderr=False)
        progress.advance()
        window.console.job_output(b" a line\n", is_stderr=False)
        first, bar = window.rows()
    assert (first, bool(BAR.match(bar)), "1/3" in bar) == ("half a line", True, True)


def test_the_last_line_of_a_job_survives_the_removal_of_a_bar(window: Window) -> None:
    with window.console.progress("jobs", total=3, unit="job"):
        window.console.job_output(b"the last line", is_stderr=False)
    window.console.info("job 1: succeeded")
    assert window.rows() == ["the last line", "job 1: succeeded", ""]


def test_a_new_bar_starts_on_a_row_of_its_own(window: Window) -> None:
    window.console.job_output(b"the last line", is_stderr=True)
    with window.console.progress("jobs", total=3, unit="job"):
        first, bar = window.rows()
    assert (first, bool(BAR.match(bar))) == ("the last line", True)


def test_a_bar_of_the_job_itself_is_kept(window: Window) -> None:
    """As tqdm draws it: after a carriage return, without a line break."""
    with window.console.progress("jobs", total=1, unit="job") as progress:
        for percent in (b"10", b"50", b"100"):
            window.console.job_output(b"\rtrain: " + percent + b"%", is_stderr=True)
            progress.note("cpu.py")
        window.console.info("job 1: succeeded")
    assert [row for row in window.rows() if row and not BAR.match(row)] == ["train: 100%", "job 1: succeeded"]


def test_the_streams_of_a_job_do_not_overwrite_each_others_last_lines(window: Window) -> None:
    window.console.job_output(b"final result", is_stderr=False)
    window.console.job_output(b"\rtrain: 100%", is_stderr=True)
    window.console.job_output(b"", is_stderr=False)
    window.console.info("job 1: succeeded")
    assert window.rows() == ["final result", "train: 100%", "job 1: succeeded", ""]


def test_no_thread_of_tqdm_draws_by_itself(window: Window) -> None:
    from tqdm import tqdm

    with window.console.progress("jobs", total=1, unit="job"):
        assert tqdm.monitor is None or not tqdm.monitor.is_alive()


@pytest.mark.parametrize(
    "data", [b"\x1b[31mred\n\x1b[0m", b"done\n\x1b[?25h", b"\x1b]0;title\x07text\n", b"a\n\r", b"a\r\n"]
)
def test_sequences_that_move_nothing_are_no_unfinished_line(window: Window, data: bytes) -> None:
    window.console.job_output(data, is_stderr=False)
    window.console.info("ours")
    assert "" not in window.rows()[:-1]


@pytest.mark.parametrize("data", [b"half\x1b[0m", b"\x1b[31mhalf", b"50%\r", b"half", b"\x1b[K50%"])
def test_our_line_does_not_continue_a_line_of_a_job_that_ends_with_such_a_sequence(window: Window, data: bytes) -> None:
    window.console.job_output(data, is_stderr=False)
    window.console.info("ours")
    assert window.rows()[1:] == ["ours", ""]


@pytest.mark.parametrize(
    ("data", "is_reset"),
    [(b"\x1b[31mred\n", True), (b"\x1b[1;31mred\x1b[0m\n", False), (b"\x1b[mplain\n", False), (b"plain\n", False)],
)  # fmt: skip
def test_colours_that_a_job_leaves_behind_do_not_colour_our_lines(window: Window, data: bytes, is_reset: bool) -> None:
    window.console.job_output(data, is_stderr=False)
    window.written()
    window.console.info("ours")
    assert window.written() == ("\x1b[0mours\r\n" if is_reset else "ours\r\n")


BAR_OF_JOB = [b"\r\x1b[31m%d%%" % percent for percent in range(101)]


def test_a_file_gets_the_last_state_of_a_bar(tmp_path: Path) -> None:
    with (tmp_path / "both").open("a") as stdout, (tmp_path / "both").open("a") as stderr:
        console = Console(stdout=stdout, stderr=stderr)
        with console.progress("jobs", total=1, unit="job"):
            for state in BAR_OF_JOB:
                console.job_output(state, is_stderr=True)
        console.info("job 1: succeeded")
    assert (tmp_path / "both").read_bytes() == b"\x1b[31m100%\njob 1: succeeded\n"


@pytest.mark.parametrize("is_stderr", [False, True])
def test_a_terminal_gets_a_bar_as_it_moves(window: Window, is_stderr: bool) -> None:
    for state in BAR_OF_JOB[:3]:
        window.console.job_output(state, is_stderr=is_stderr)
        assert window.written() == state.decode()


def test_a_file_gets_the_lines_of_both_streams_whole(tmp_path: Path) -> None:
    with (tmp_path / "both").open("a") as stdout, (tmp_path / "both").open("a") as stderr:
        console = Console(stdout=stdout, stderr=stderr)
        for data, is_stderr in (
            (b"a", False),
            (b"1", True),
            (b"b\n", False),
            (b"2\n", True),
            (b"c", False),
            (b"3", True),
        ):
            console.job_output(data, is_stderr=is_stderr)
        console.job_output(b"", is_stderr=False)
        console.info("job 1: succeeded")
    assert (tmp_path / "both").read_bytes() == b"ab\n12\nc\n3\njob 1: succeeded\n"


@pytest.mark.parametrize("data", [b"a\r\nb\r\n", b"\x89PNG\r\n\x1a\n\x00\r\x00", bytes(range(256)) * 3])
def test_a_file_gets_what_is_no_bar_byte_for_byte(tmp_path: Path, data: bytes) -> None:
    with (tmp_path / "out").open("w") as stdout, (tmp_path / "err").open("w") as stderr:
        console = Console(stdout=stdout, stderr=stderr)
        for start in range(0, len(data), 5):
            console.job_output(data[start : start + 5], is_stderr=False)
        console.job_output(b"", is_stderr=False)
    assert (tmp_path / "out").read_bytes() == data
