"""A command in a terminal, with its output in a pipe: Ctrl-C and a closed terminal reach all processes of the pipe."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import Researcher, researcher, wait_until

__all__ = ["researcher"]

RUN = ("run", "--xgroup", "g", "--nogpu", "cpu.py")
RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")
COMMANDS = pytest.mark.parametrize("command", [RUN, RESUBMIT], ids=["run", "resubmit"])
CTRL_C = b"\x03"
SCRIPT = """\
trap : INT  # the shell goes on, as an interactive one does
{{ trap : INT HUP; {command}; code=$?; echo $code > code; exit $code; }} {pipe}
echo "${{PIPESTATUS[*]}}" > status
"""
PREPARE = "import signal, sys, time\nsignal.signal(signal.SIGTERM, {})\nprint('runs', flush=True)\n"
QUIET = PREPARE.format("lambda *_: sys.exit('terminated')") + "time.sleep(600)\n"
STUBBORN = PREPARE.format("signal.SIG_IGN") + "time.sleep(600)\n"
LOUD = PREPARE.format("lambda *_: sys.exit('terminated')") + "while True:\n    print('x' * 1000)\n"


@dataclass
class Terminal:
    """A pseudo-terminal with a shell, whose pipeline is in the foreground."""

    researcher: Researcher
    _master: int | None = None
    _shell: subprocess.Popen[bytes] | None = None
    _is_closed: threading.Event = field(default_factory=threading.Event)
    _shown: list[bytes] = field(default_factory=list)

    def start(self, command: tuple[str, ...], pipe: str) -> None:
        words = shlex.join([sys.executable, "-m", "caliban", *command])
        self._master, slave = os.openpty()
        self._shell = subprocess.Popen(
            ["bash", "-c", SCRIPT.format(command=words, pipe=pipe)],
            cwd=self.researcher.project,
            env={**self.researcher.environ, "TMPDIR": str(self.researcher.home)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        threading.Thread(target=self._read, args=(self._master,), daemon=True).start()

    def _read(self, master: int) -> None:
        """Read until the terminal is to be closed; a read that waits would keep it open."""
        with suppress(OSError):  # all processes have ended
            while not self._is_closed.is_set():
                if select.select([master], [], [], 0.05)[0]:
                    self._shown.append(os.read(master, 65536))
        self._is_closed.wait()
        os.close(master)

    def press(self, key: bytes) -> None:
        assert self._master is not None
        os.write(self._master, key)

    def close(self) -> None:
        """Close the window: the processes in the foreground get SIGHUP."""
        self._is_closed.set()

    @property
    def shown(self) -> str:
        return b"".join(self._shown).decode(errors="replace")

    def wait_for(self, name: str, seconds: float = 60) -> str:
        """Return the content of a file, once it has some."""
        path = self.researcher.project / name
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"), seconds)
        return path.read_text().strip()

    def end(self) -> None:
        if self._shell is not None and self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
        if self._shell is not None:
            self._shell.wait()
        self.close()


@pytest.fixture
def terminal(researcher: Researcher) -> Iterator[Terminal]:
    opened = Terminal(researcher)
    yield opened
    opened.end()
    assert list(researcher.home.glob("caliban-error-*")) == []


def start(terminal: Terminal, command: tuple[str, ...], code: str, pipe: str = "2>&1 | tee log") -> None:
    """Start a command and wait until the job of ``code`` runs; before ``resubmit``, a first run of it fails."""
    if command is RESUBMIT:
        terminal.researcher.write("cpu.py", "raise SystemExit(1)\n")
        terminal.researcher.caliban(*RUN)
    terminal.researcher.write("cpu.py", code)
    terminal.start(command, pipe)
    log = terminal.researcher.project / "log"
    wait_until(lambda: log.exists() and "runs" in log.read_text())


def latest(researcher: Researcher) -> str:
    [(status,)] = researcher.rows("SELECT status FROM jobs ORDER BY id DESC LIMIT 1")
    return str(status)


def is_running(researcher: Researcher, engine: Engine) -> bool:
    [(name,)] = researcher.rows("SELECT json_extract(details, '$.name') FROM jobs ORDER BY id DESC LIMIT 1")
    return bool(engine.client.api.inspect_container(str(name))["State"]["Running"])


@COMMANDS
@pytest.mark.parametrize("code", [QUIET, LOUD], ids=["quiet", "loud"])
def test_ctrl_c_stops_the_job_although_the_reader_of_the_output_ends_first(
    terminal: Terminal, researcher: Researcher, engine: Engine, command: tuple[str, ...], code: str
) -> None:
    start(terminal, command, code)
    terminal.press(CTRL_C)

    assert terminal.wait_for("code") == "130"
    assert latest(researcher) == "STOPPED"
    assert not is_running(researcher, engine)
    assert terminal.wait_for("status") == "130 130"  # the second one is tee's
    assert "Traceback" not in terminal.shown


def test_errors_are_shown_in_the_terminal_where_only_the_output_is_piped(
    terminal: Terminal, researcher: Researcher, engine: Engine
) -> None:
    start(terminal, RUN, QUIET, "| tee log")
    terminal.press(CTRL_C)
    assert terminal.wait_for("code") == "130"
    assert (latest(researcher), is_running(researcher, engine)) == ("STOPPED", False)
    assert "stopping job 1 ..." in terminal.shown
    assert "interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown


@COMMANDS
def test_a_second_ctrl_c_does_not_wait_for_a_job_that_does_not_end(
    terminal: Terminal, researcher: Researcher, engine: Engine, command: tuple[str, ...]
) -> None:
    start(terminal, command, STUBBORN)
    terminal.press(CTRL_C)
    wait_until(lambda: "stop_requested" in str(researcher.rows("SELECT details FROM jobs ORDER BY id DESC LIMIT 1")))
    threading.Event().wait(1)  # as a person does
    terminal.press(CTRL_C)

    assert terminal.wait_for("code", seconds=5) == "130"
    wait_until(lambda: not is_running(researcher, engine))  # the engine kills it after 10 s
    researcher.caliban("status", "--xgroup", "g")
    assert latest(researcher) == "STOPPED"


@COMMANDS
@pytest.mark.parametrize("code", [QUIET, LOUD], ids=["quiet", "loud"])
def test_a_closed_terminal_stops_the_job(
    terminal: Terminal, researcher: Researcher, engine: Engine, command: tuple[str, ...], code: str
) -> None:
    start(terminal, command, code)
    terminal.close()

    assert terminal.wait_for("code") == "129"
    assert latest(researcher) == "STOPPED"
    assert not is_running(researcher, engine)


def test_ctrl_c_while_an_image_is_built_submits_nothing(terminal: Terminal, researcher: Researcher) -> None:
    researcher.write("setup.py", "import time\nprint('runs')\ntime.sleep(600)\n")
    terminal.start(RUN, "2>&1 | tee log")
    wait_until(lambda: "setup.py" in terminal.shown or "Step" in terminal.shown)
    terminal.press(CTRL_C)

    assert terminal.wait_for("code") == "130"
    assert not Path(researcher.store).exists() or researcher.rows("SELECT id FROM jobs") == []
