"""Standard streams that are closed, full, gone, or not read, as processes see them."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.cli.streams import Output
from caliban.errors import ExitCode
from tests.conftest import Caliban

from .plugins import add_package, python_path

WORKS = """
    from pathlib import Path

    DESCRIPTION = "Write much, then record that the work is done."
    CHANGES_JOBS = True

    def add_arguments(parser):
        parser.add_argument("--dry_run", action="store_true")
        parser.add_argument("--fail", action="store_true")

    def run(args, context):
        for number in range(1_500):
            context.console.print(f"line {number:0100}")
            context.console.info(f"note {number:0100}")
        with context.console.progress("work", total=1, unit="job") as progress:
            progress.advance()
        Path("done").write_text("done")
        return 1 if args.fail else 0
"""

ASKS = """
    DESCRIPTION = "Ask."

    def add_arguments(parser):
        pass

    def run(args, context):
        return 0 if context.console.agreed("go on?", "changed") else 1
"""

INTERRUPTED = """
    import signal, threading

    DESCRIPTION = "Ask, and get a signal that interrupts no system call: it comes to another thread."

    def add_arguments(parser):
        pass

    def run(args, context):
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        return 0 if context.console.agreed("go on?", "changed") else 1
"""

OPENS = """
    import os

    DESCRIPTION = "Open a file."

    def add_arguments(parser):
        pass

    def run(args, context):
        descriptor = os.open("file", os.O_CREAT | os.O_RDWR)
        context.console.print("to standard output")
        context.console.info("to standard error")
        return 0 if os.fstat(descriptor).st_size == 0 else 1
"""

FULL = "error: cannot write to standard output: No space left on device [output-failed]\n"


@pytest.fixture
def plugged_in(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    modules = {"works": WORKS, "asks": ASKS, "interrupted": INTERRUPTED, "opens": OPENS}
    add_package(site, "caliban-test", {name: name for name in modules}, modules)
    return python_path(site)


def shell(run_caliban: Caliban, command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which ``$caliban`` is the command."""
    return subprocess.run(
        ["bash", "-c", command.replace("$caliban", f"{sys.executable} -m caliban")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=run_caliban.environment(env),
        cwd=run_caliban.cwd,
        timeout=60,
        check=False,
    )


NO_JOBS = "totoro has no jobs yet; to run experiments, see: caliban run --help\n"
LISTINGS = ("status", "version", "help", "--help", "status --help", "status --helpfull", "--version")


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_on_a_full_device_is_an_error_of_one_line(listing: str, run_caliban: Caliban) -> None:
    done = shell(run_caliban, f"$caliban {listing} > /dev/full")
    assert (done.returncode, done.stderr.removeprefix(NO_JOBS)) == (ExitCode.NOT_DONE, FULL)


@pytest.mark.parametrize(
    ("listing", "closed"),
    [
        *((listing, ">&-") for listing in LISTINGS),
        *(("status", closed) for closed in (">&- 2>&-", "2>&-", "<&-", "<&- >&- 2>&-")),
    ],
)
def test_a_listing_does_not_need_its_streams(listing: str, closed: str, run_caliban: Caliban) -> None:
    done = shell(run_caliban, f"$caliban {listing} {closed}")
    assert (done.returncode, done.stderr.removeprefix(NO_JOBS)) == (ExitCode.DONE, "")


@pytest.mark.parametrize(
    "streams",
    [
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "> /dev/full",
        "2> /dev/full",
        "> /dev/full 2>&1",
        "| true",
        "2>&1 | true",
        "| head -1",
        "1< /dev/null",
    ],
)
@pytest.mark.parametrize(("flag", "code"), [("", 0), ("--fail", 1)])
def test_output_does_not_decide_what_a_command_does_or_how_it_ends(
    streams: str, flag: str, code: int, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    done = shell(run_caliban, f"$caliban works {flag} {streams}; exit ${{PIPESTATUS[0]}}", plugged_in)
    assert (done.returncode, (run_caliban.cwd / "done").exists()) == (code, True)


def test_output_that_is_lost_is_reported_without_changing_the_exit_code(
    plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    done = shell(run_caliban, "$caliban works > /dev/full", plugged_in)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        ExitCode.DONE,
        "warning: cannot write to standard output: No space left on device; to list the jobs, run: caliban status",
    )


def test_a_dry_run_is_a_listing(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = shell(run_caliban, "$caliban works --dry_run > /dev/full", plugged_in)
    assert (done.returncode, done.stderr.endswith(FULL)) == (ExitCode.NOT_DONE, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_is_done_before_a_reader_is_waited_for_and_an_interrupt_ends_the_wait(
    number: signal.Signals, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "caliban", "works"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=run_caliban.environment(plugged_in),
        cwd=run_caliban.cwd,
    )
    until(lambda: (run_caliban.cwd / "done").exists())
    assert process.poll() is None, "output that nobody has read is not thrown away"
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def until(condition: object) -> None:
    for _ in range(3000):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("timed out")


def test_a_slow_reader_gets_everything_in_order(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = shell(run_caliban, "$caliban works 2>/dev/null | (read first; sleep 0.5; echo $first; cat)", plugged_in)
    assert done.stdout.splitlines() == [f"line {number:0100}" for number in range(1_500)]


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&-"])
def test_without_standard_input_the_answer_is_no(closed: str, plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = shell(run_caliban, f"$caliban asks <&- {closed}", plugged_in)
    expected = "" if "2>" in closed else "\n go on? [yN]: \nno answer, nothing was changed; in scripts, add --yes\n"
    assert (done.returncode, done.stderr) == (ExitCode.NOT_DONE, expected)


@pytest.mark.parametrize("answer", [r"\xff\xfe\n", r"y\x00\n", "y" * 5000 + r"\n", r"\xc3\n"])
def test_an_answer_that_is_no_text_is_not_a_yes(answer: str, plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    done = shell(run_caliban, f"printf '{answer}' | $caliban asks", plugged_in)
    assert (done.returncode, "Traceback" in done.stderr) == (ExitCode.NOT_DONE, False)


@pytest.mark.parametrize("source", ["/", "/dev/zero"])
def test_an_endless_or_unreadable_answer_is_not_a_yes(
    source: str, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    assert shell(run_caliban, f"$caliban asks < {source}", plugged_in).returncode == ExitCode.NOT_DONE


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(
    closed: str, plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    done = shell(run_caliban, f"$caliban opens {closed}", plugged_in)
    assert (done.returncode, (run_caliban.cwd / "file").read_bytes()) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "cp1252"])
def test_every_encoding_can_show_every_name(encoding: str, run_caliban: Caliban) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caliban", "status"],
        capture_output=True,
        env=run_caliban.environment({"CALIBAN_USER": "größe☃", "PYTHONIOENCODING": f"{encoding}:strict"}),
        cwd=run_caliban.cwd,
        check=False,
    )
    assert done.returncode == 0
    assert "most recent 8 jobs for user gr" in done.stdout.decode(encoding)


def test_a_terminal_that_is_gone_ends_a_listing_quietly(run_caliban: Caliban) -> None:
    user, program = pty.openpty()
    os.close(user)
    done = subprocess.run(
        [sys.executable, "-m", "caliban", "status"],
        stdin=program,
        stdout=program,
        stderr=program,
        env=run_caliban.environment(),
        cwd=run_caliban.cwd,
        check=False,
    )
    os.close(program)
    assert done.returncode == 0


def at_a_terminal(run_caliban: Caliban, env: dict[str, str], *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command in a session of its own, at a terminal; return it, and the side of the user."""
    user, program = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, termios, runpy; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "sys.argv[:1] = []; runpy.run_module('caliban', run_name='__main__', alter_sys=True)",
            "caliban",
            *words,
        ],
        stdin=program,
        stdout=program,
        stderr=program,
        env=run_caliban.environment(env),
        cwd=run_caliban.cwd,
        start_new_session=True,
    )
    os.close(program)
    return process, user


def read_until(descriptor: int, end: bytes) -> bytes:
    received = b""
    while end not in received:
        received += os.read(descriptor, 4096)
    return received


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_a_question_ends_the_command(times: int, plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    process, user = at_a_terminal(run_caliban, plugged_in, "asks")
    read_until(user, b"[yN]: ")
    os.write(user, b"\x03" * times)
    code = process.wait(timeout=30)
    os.close(user)
    assert code in (ExitCode.INTERRUPTED, -signal.SIGINT)


def test_ctrl_c_just_before_the_answer_is_waited_for_ends_the_command(
    plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    process, user = at_a_terminal(run_caliban, plugged_in, "interrupted")
    read_until(user, b"[yN]: ")
    code = process.wait(timeout=30)
    os.close(user)
    assert code == ExitCode.INTERRUPTED


def test_a_terminal_that_is_closed_at_a_question_is_no_yes(plugged_in: dict[str, str], run_caliban: Caliban) -> None:
    process, user = at_a_terminal(run_caliban, plugged_in, "asks")
    read_until(user, b"[yN]: ")
    os.close(user)
    assert process.wait(timeout=30) in (ExitCode.HUNG_UP, ExitCode.NOT_DONE)


def test_a_command_that_ignores_the_end_of_its_terminal_does_its_work(
    plugged_in: dict[str, str], run_caliban: Caliban
) -> None:
    done = shell(run_caliban, "nohup $caliban works > /dev/null 2>&1 & kill -HUP $!; wait $!", plugged_in)
    assert done.returncode in (0, 129)  # 129 where the signal came before nohup ignored it
    assert done.returncode == 129 or (run_caliban.cwd / "done").exists()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where it is read, and where it is written."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def test_a_pipe_that_is_full_keeps_nobody_waiting(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    data = bytes(range(256)) * 4096
    assert output.write(data) == len(data)
    output.write(b"end")
    received = b""
    while not received.endswith(b"end"):
        received += os.read(reader, 65536)
    output.wait(10)
    assert received == data + b"end"
    os.close(reader)


def test_a_non_blocking_pipe_gets_everything(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    output = Output(writer)
    data = b"x" * 300_000
    output.write(data)
    received = 0
    while received < len(data):
        received += len(os.read(reader, 65536))
    output.wait(10)
    assert (received, output.failure) == (len(data), None)
    os.close(reader)


def test_after_its_reader_left_a_pipe_is_written_to_no_more(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    os.close(reader)
    assert (output.write(b"lost"), output.write(b"lost too"), output.failure) == (4, 8, None)


def test_an_error_other_than_a_closed_pipe_is_kept() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.write(b"lost")
    os.close(full)
    assert output.failure is not None
    assert output.failure.errno == errno.ENOSPC


def test_a_signal_handler_may_write_while_the_same_thread_writes(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = Output(writer)
    before = signal.signal(signal.SIGALRM, lambda number, frame: output.write(b"handler\n") and None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(2000):
            output.write(b"line\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    output.write(b"end\n")
    received = b""
    while not received.endswith(b"end\n"):
        received += os.read(reader, 65536)
    os.close(reader)
    lines = received.split(b"\n")
    assert (lines.count(b"line"), set(lines)) == (2000, {b"line", b"handler", b"end", b""})


def test_it_is_noticed_without_a_write_that_a_reader_has_left() -> None:
    read, write = os.pipe()
    output = Output(write)
    before = output.has_reader()
    os.close(read)
    assert (before, output.has_reader()) == (True, False)
    os.close(write)


@pytest.mark.parametrize("name", ["file", os.devnull])
def test_a_file_always_has_a_reader(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        assert Output(file.fileno()).has_reader()
