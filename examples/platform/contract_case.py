"""What the contract tests of caliban need to know about the platform SUBPROCESS; see docs/add-a-platform.md."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caliban.clock import SystemClock
from caliban.records import JobRecord
from caliban_subprocess import processes
from caliban_subprocess.command import SubprocessLauncher
from caliban_subprocess.platform import SubprocessPlatform
from tests.platforms.contract.case import ContractCase

_SCRIPT = """
trap "exit 0" USR1
trap "exit 3" USR2
echo $$
while :; do sleep 0.02; done
"""


class SubprocessCase(ContractCase):
    """Jobs that end when the test sends them a signal."""

    platform_class = SubprocessPlatform
    launcher = SubprocessLauncher()
    clock_type = SystemClock

    @contextmanager
    def service(self) -> Iterator[None]:
        """Kill what still runs at the end."""
        other = self.directory / "other"
        other.mkdir()
        self.images = str(self.project), str(other)
        self._state = self.directory / "state"
        self.environ = {"CALIBAN_SUBPROCESS_DIR": str(self._state), "PATH": os.environ["PATH"]}
        try:
            yield
        finally:
            for job in self._directory().glob("job-*"):
                self._kill(job)

    def script(self) -> str:
        """Return a program that ends on a signal."""
        return _SCRIPT

    def started(self) -> int:
        """See :meth:`ContractCase.started`."""
        return len(list(self._directory().glob("*/pid")))

    def requests(self) -> int:
        """Return 0: there is no service."""
        return 0

    def lose_answer(self) -> None:
        """Let the system start the process, and report an error nevertheless."""
        run: Callable[..., Any] = subprocess.run

        def run_and_fail(command: object, **options: object) -> None:
            self.patch.setattr(subprocess, "run", run)
            run(command, **options)
            raise OSError("Input/output error")

        self.patch.setattr(subprocess, "run", run_and_fail)

    def refuse(self) -> None:
        """Remove the project."""
        shutil.rmtree(self.project)

    def disconnect(self) -> None:
        """Move the directory of the jobs away, and put a file where it was."""
        self._state.rename(self.directory / "away")
        self._state.touch()

    def end(self, job: JobRecord, *, succeeded: bool) -> None:
        """Send the signal that the program waits for."""
        directory = self._state / str(job.details.display_name)
        pid = self._read(directory / "output")
        os.kill(pid, signal.SIGUSR1 if succeeded else signal.SIGUSR2)
        self._read(directory / "exit")

    def remove(self, job: JobRecord) -> None:
        """Kill the job's shell too, so that nobody records the exit code."""
        self._kill(self._state / str(job.details.display_name))

    def write(self, job: JobRecord, data: bytes) -> None:
        """Append to the file that the program writes to."""
        output = self._output(job)
        self._read(output)
        with output.open("ab") as file:
            file.write(data)

    def forget_output(self, job: JobRecord) -> None:
        """Remove that file."""
        self._output(job).unlink()

    def _output(self, job: JobRecord) -> Path:
        return self._state / str(job.details.display_name) / "output"

    def _directory(self) -> Path:
        away = self.directory / "away"
        return away if away.exists() else self._state

    def _kill(self, directory: Path) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.killpg(int((directory / "pid").read_text()), signal.SIGKILL)
        while processes._is_running(directory):
            time.sleep(0.005)

    @staticmethod
    def _read(path: Path) -> int:
        """Return the number in the first line of a file, once it is there."""
        while not (path.exists() and b"\n" in path.read_bytes()):
            time.sleep(0.005)
        return int(path.read_bytes().partition(b"\n")[0])
