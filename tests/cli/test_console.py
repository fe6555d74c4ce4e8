from __future__ import annotations

import io
import os
import pty
import select
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from caliban.cli.console import Console
from caliban.errors import CalibanError
from caliban.input_files import InputFileError
from tests.conftest import MakeScreen, Screen
from tests.fakes import FakeClock


def test_a_listing_goes_to_standard_output(screen: Screen) -> None:
    screen.console.print("xgroup x:")
    assert (screen.stdout.text, screen.stderr.text) == ("xgroup x:\n", "")


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (lambda console: console.info("building"), "building\n"),
        (lambda console: console.warn("no key"), "warning: no key\n"),
        (lambda console: console.error(CalibanError("x", "no", hint="go")), "error: no [x]\n  hint: go\n"),
    ],
)  # fmt: skip
def test_everything_else_goes_to_standard_error(write: Callable[[Console], None], written: str, screen: Screen) -> None:
    write(screen.console)
    assert (screen.stdout.text, screen.stderr.text) == ("", written)


@pytest.mark.parametrize("data", [b"", b"plain\n", bytes(range(256)), "Ünïcode ☃\r\n".encode("utf-16")])
@pytest.mark.parametrize("is_stderr", [False, True])
def test_the_output_of_a_job_is_passed_on_byte_for_byte(data: bytes, is_stderr: bool, screen: Screen) -> None:
    screen.console.job_output(data, is_stderr=is_stderr)
    written = (screen.stdout.written, screen.stderr.written)
    assert written == ((b"", data) if is_stderr else (data, b""))


@pytest.mark.parametrize("is_stderr", [False, True])
def test_the_output_of_jobs_can_be_kept_off_standard_output(is_stderr: bool, screen: Screen) -> None:
    screen.console.jobs_to_stderr = True
    screen.console.print("listing")
    screen.console.job_output(b"\xff\n", is_stderr=is_stderr)
    assert (screen.stdout.written, screen.stderr.written) == (b"listing\n", b"\xff\n")


def test_listings_can_be_kept_off_standard_output(screen: Screen) -> None:
    screen.console.listing_to_stderr = True
    screen.console.print("listing")
    screen.console.job_output(b"out\n", is_stderr=False)
    assert (screen.stdout.written, screen.stderr.written) == (b"out\n", b"listing\n")


def test_the_output_of_a_job_follows_earlier_output(screen: Screen) -> None:
    screen.console.print("one")
    screen.console.job_output(b"two\n", is_stderr=False)
    screen.console.print("three")
    assert screen.stdout.text == "one\ntwo\nthree\n"


def test_a_stream_without_a_binary_buffer_gets_the_output_of_a_job_as_text() -> None:
    out = io.StringIO()
    Console(stdout=out, stderr=io.StringIO()).job_output(b"caf\xc3\xa9 \xff\n", is_stderr=False)
    assert out.getvalue() == "café \\xff\n"


@pytest.mark.parametrize("is_stderr", [False, True])
def test_our_line_after_an_unfinished_one_of_a_job_starts_on_its_own(tmp_path: Path, is_stderr: bool) -> None:
    with (tmp_path / "both").open("a") as stdout, (tmp_path / "both").open("a") as stderr:
        console = Console(stdout=stdout, stderr=stderr)
        for data in (b"half", b" a line", b""):
            console.job_output(data, is_stderr=is_stderr)
        console.info("job 1: succeeded", "1 job")
        console.job_output(b"whole\n", is_stderr=is_stderr)
        console.print("listing")
    assert (tmp_path / "both").read_text() == "half a line\njob 1: succeeded\n1 job\nwhole\nlisting\n"


def test_the_output_of_a_job_in_a_file_of_its_own_is_not_changed(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stdout, (tmp_path / "err").open("w") as stderr:
        console = Console(stdout=stdout, stderr=stderr)
        console.job_output(b"no line break", is_stderr=False)
        console.info("job 1: succeeded")
    assert (tmp_path / "out").read_bytes() == b"no line break"
    assert (tmp_path / "err").read_text() == "job 1: succeeded\n"


def test_a_name_outside_of_the_encoding_of_the_stream_does_not_end_a_listing() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(stdout=out, stderr=io.StringIO()).print("xgroup größe:")
    assert out.buffer.getvalue() == b"xgroup gr\\xf6\\xdfe:\n"


def test_a_console_uses_the_streams_of_the_process_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print("hello")
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y\n", True),
        ("yes\n", True),
        ("Y\n", True),
        ("YES\n", True),
        (" y \n", True),
        ("y", True),
        ("n\n", False),
        ("no\n", False),
        ("\n", False),
        ("yep\n", False),
        ("yn\n", False),
        ("", None),
    ],
)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_only_y_and_yes_confirm(typed: str, answer: bool | None, is_terminal: bool, make_screen: MakeScreen) -> None:
    assert make_screen(typed, is_terminal=is_terminal).console.confirm("go on?") is answer


def test_a_question_is_asked_on_standard_error(make_screen: MakeScreen) -> None:
    screen = make_screen("y\n", is_terminal=True)
    screen.console.confirm("do you wish to resubmit these 1 jobs?")
    assert (screen.stdout.text, screen.stderr.text) == ("", "\n do you wish to resubmit these 1 jobs? [yN]: ")


def test_ctrl_c_at_a_question_ends_its_line(make_screen: MakeScreen, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(size: int = -1) -> str:
        raise KeyboardInterrupt

    screen = make_screen(is_terminal=True)
    monkeypatch.setattr(screen.stdin, "readline", interrupt)
    with pytest.raises(KeyboardInterrupt):
        screen.console.confirm("go on?")
    assert screen.stderr.text == "\n go on? [yN]: \n"


def test_an_answer_from_a_pipe_is_echoed(make_screen: MakeScreen) -> None:
    screen = make_screen("y\n")
    screen.console.confirm("go on?")
    assert screen.stderr.text == "\n go on? [yN]: y\n"


def test_each_question_reads_one_line(make_screen: MakeScreen) -> None:
    console = make_screen("y\nn\ny\n").console
    assert [console.confirm("?") for _ in range(4)] == [True, False, True, None]


@pytest.mark.parametrize(
    ("typed", "is_agreed", "reported"),
    [
        ("y\n", True, "y\n"),
        ("n\n", False, "n\nnothing was stopped\n"),
        ("", False, "\nno answer, nothing was stopped; in scripts, add --yes\n"),
    ],
)
def test_a_missing_confirmation_is_reported(
    typed: str, is_agreed: bool, reported: str, make_screen: MakeScreen
) -> None:
    screen = make_screen(typed)
    assert screen.console.agreed("stop 1 job?", "stopped") is is_agreed
    assert screen.stderr.text == f"\n stop 1 job? [yN]: {reported}"


def test_all_of_standard_input_is_read(make_screen: MakeScreen) -> None:
    assert make_screen('{"a":\n 1}\n').console.read_input() == '{"a":\n 1}\n'


def test_standard_input_is_read_to_its_limit_only() -> None:
    with Path("/dev/zero").open(encoding="utf-8") as endless, pytest.raises(InputFileError) as caught:
        Console(endless).read_input(1024)
    assert caught.value.id == "file-too-large"


def test_a_closed_standard_input_is_an_error() -> None:
    closed = io.StringIO()
    closed.close()
    with pytest.raises(InputFileError) as caught:
        Console(closed).read_input()
    assert (caught.value.id, caught.value.cause) == ("file-unreadable", "it is closed")


def test_no_progress_is_shown_for_a_quick_operation(screen: Screen) -> None:
    with screen.console.progress("build", total=3, unit="step") as progress:
        progress.advance()
        progress.note("pip install")
    assert screen.stderr.text == ""


def test_without_a_terminal_progress_is_a_line_every_two_seconds(screen: Screen, clock: FakeClock) -> None:
    with screen.console.progress("build", total=4, unit="step") as progress:
        for note in ("FROM", "RUN pip", "COPY", "USER"):
            clock.seconds += 1.5
            progress.note(note)
            progress.advance()
    assert screen.stderr.text == "build: 1 of 4 steps (RUN pip)\nbuild: 3 of 4 steps (USER)\n"


@pytest.mark.parametrize(
    ("total", "unit", "amount", "line"),
    [
        (15_000_000, "B", 3_200_000, "context: 3.2 of 15.0 MB\n"),
        (None, "B", 3_200_000, "context: 3.2 MB\n"),
        (3, "job", 1, "context: 1 of 3 jobs\n"),
        (None, "step", 7, "context: 7 steps\n"),
    ],
)
def test_a_progress_line_has_amount_and_unit(
    total: int | None, unit: str, amount: int, line: str, screen: Screen, clock: FakeClock
) -> None:
    with screen.console.progress("context", total=total, unit=unit) as progress:
        clock.seconds += 2
        progress.advance(amount)
    assert screen.stderr.text == line


def test_progress_lines_do_not_go_to_standard_output(screen: Screen, clock: FakeClock) -> None:
    with screen.console.progress("build", total=3, unit="step") as progress:
        clock.seconds += 60
        progress.advance()
    assert screen.stdout.text == ""


def test_on_a_terminal_progress_is_a_bar(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with screen.console.progress("build", total=3, unit="step") as progress:
        progress.note("pip install")
        progress.advance(2)
        screen.console.info("x")
    assert "build:" in screen.stderr.text
    assert "2/3" in screen.stderr.text
    assert "pip install" in screen.stderr.text


def test_a_bar_of_bytes_counts_in_bytes(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with screen.console.progress("context", total=15_000_000, unit="B") as progress:
        progress.advance(3_000_000)
        screen.console.info("x")
    assert "3.00M/15.0M" in screen.stderr.text


def test_lines_are_written_while_the_bar_is_hidden(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with screen.console.progress("build", total=3, unit="step"):
        screen.console.info("Step 1/3 : FROM")
    # The terminal shows what follows the last carriage return of a line.
    [line] = [line for line in screen.stderr.text.split("\n") if "Step" in line]
    assert line.split("\r")[-1] == "Step 1/3 : FROM"
    assert not line.split("\r")[-2].strip()


def test_a_finished_bar_is_removed(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with screen.console.progress("build", total=3, unit="step"):
        pass
    assert not screen.stderr.text.split("\n")[-1].split("\r")[-1].strip()


def test_a_bar_is_removed_after_an_error(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with pytest.raises(ZeroDivisionError), screen.console.progress("build", total=3, unit="step"):
        raise ZeroDivisionError
    before = screen.stderr.text
    screen.console.info("the end")
    assert screen.stderr.text == before + "the end\n"


def test_lines_of_several_threads_are_not_mixed(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    lines = ["a" * 50, "b" * 50, "c" * 50]
    with screen.console.progress("jobs", total=300, unit="job") as progress:

        def write(line: str) -> None:
            for _ in range(100):
                screen.console.info(line)
                progress.advance()

        threads = [threading.Thread(target=write, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = [line.split("\r")[-1] for line in screen.stderr.text.split("\n")[:-1]]
    assert sorted(written) == sorted(lines * 100)


@dataclass
class RealTerminal:
    """A pseudo-terminal: the side of the user, and a console at the other side."""

    user: int
    console: Console

    def type(self, text: str) -> None:
        os.write(self.user, text.encode())

    def seen(self) -> str:
        """Return everything so far; the echo of what was typed may arrive separately."""
        read = b""
        while select.select([self.user], [], [], 0.5)[0]:
            read += os.read(self.user, 65536)
        return read.decode()


@pytest.fixture
def real_terminal() -> Iterator[RealTerminal]:
    user, program = pty.openpty()
    with (
        os.fdopen(program, "r", closefd=False) as stdin,
        os.fdopen(program, "w", closefd=False) as stdout,
    ):
        yield RealTerminal(user, Console(stdin, stdout, stdout))
    os.close(program)
    os.close(user)


@pytest.mark.parametrize(("typed", "answer"), [("y\n", True), ("n\n", False), ("\n", False), ("\x04", None)])
def test_a_question_is_answered_at_a_real_terminal(
    typed: str, answer: bool | None, real_terminal: RealTerminal
) -> None:
    real_terminal.type(typed)
    assert real_terminal.console.confirm("go on?") is answer


def test_a_question_is_seen_at_a_real_terminal(real_terminal: RealTerminal) -> None:
    real_terminal.type("y\n")
    real_terminal.console.confirm("go on?")
    assert " go on? [yN]: " in real_terminal.seen()


def test_progress_without_a_terminal_does_not_import_tqdm(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    with screen.console.progress("build", total=3, unit="step") as progress:
        progress.advance()
    assert "tqdm" not in sys.modules
