"""What becomes of an accepted job: a script's end, or what its container really does on a Docker Engine."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

_POLL_S = 0.05
_NOT_STARTED = 125  # `docker run` itself failed
_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


class Work(Protocol):
    """A job, as far as a runner knows it.

    Attributes:
        project, id: together, of no other job.
        replica: how the service calls the machine that runs it.
        image, arguments: of its container.
        options: more of ``docker run``.
        is_cancelled: set when it is to end.
    """

    project: str
    replica: str
    is_cancelled: threading.Event

    @property
    def id(self) -> str: ...

    @property
    def image(self) -> str: ...

    @property
    def options(self) -> Sequence[str]: ...

    @property
    def arguments(self) -> Sequence[str]: ...


class WorkPlace(Protocol):
    """Where jobs are kept, and told what becomes of them: PREPARING, RUNNING, and one of the ends."""

    def move(self, job: Any, state: str, error: str = "") -> None: ...


class Scripted:
    """Each job goes through its states in ``step_s`` seconds each, to the end that ``outcome`` gives it."""

    def __init__(self, outcome: Callable[[Any], str], step_s: float = 0.0) -> None:
        self._outcome = outcome
        self._step_s = step_s
        self._closing = threading.Event()

    def run(self, job: Work, jobs: WorkPlace) -> None:
        """Take one job to its end."""
        end = self._outcome(job)
        error = exit_words(job.replica, 1) if end == "FAILED" else ""
        for state in ("PREPARING", "RUNNING", end):
            end_of_step = time.monotonic() + self._step_s
            while not job.is_cancelled.is_set() and time.monotonic() < end_of_step:
                if self._closing.wait(min(_POLL_S, self._step_s)):
                    return
            if job.is_cancelled.is_set():
                jobs.move(job, "CANCELLED")
                return
            jobs.move(job, state, error if state in _FINAL else "")

    def close(self) -> None:
        """Leave every job as it is."""
        self._closing.set()


class Docker:
    """Each job's container runs, the first one's where it has several; its exit code is the job's end.

    Attributes:
        on_line: called with each line that a container writes, and whether to standard error.
    """

    def __init__(self, client: Sequence[str], environ: Mapping[str, str]) -> None:
        self._client = tuple(client)
        self._environ = dict(environ)
        self.on_line: Callable[[Any, str, bool], None] = lambda job, line, is_stderr: None
        self._names: list[str] = []
        self._closing = threading.Event()

    def run(self, job: Work, jobs: WorkPlace) -> None:
        """Run one job's container, and wait for its end."""
        name = f"standin-{job.project}-{job.id}-{time.monotonic_ns()}"
        jobs.move(job, "PREPARING")
        self._names.append(name)
        process = subprocess.Popen(
            [*self._client, "run", "--rm", "--name", name, *job.options, job.image, *job.arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        jobs.move(job, "RUNNING")
        words: list[bytes] = []
        readers = [
            threading.Thread(target=self._read, args=(job, process.stdout, [], False)),
            threading.Thread(target=self._read, args=(job, process.stderr, words, True)),
        ]
        for reader in readers:
            reader.start()
        while process.poll() is None:
            if job.is_cancelled.wait(_POLL_S) or self._closing.is_set():
                self._kill(name)
        for reader in readers:
            reader.join()
        self._names.remove(name)
        self._record(job, jobs, process.returncode, b"".join(words).decode("utf-8", "replace"))

    def _read(self, job: Work, stream: Iterable[bytes], words: list[bytes], is_stderr: bool) -> None:
        for line in stream:
            words.append(line)
            self.on_line(job, line.decode("utf-8", "replace").rstrip("\n"), is_stderr)

    def close(self) -> None:
        """End every container that still runs."""
        self._closing.set()
        for name in list(self._names):
            self._kill(name)

    def _record(self, job: Work, jobs: WorkPlace, code: int, words: str) -> None:
        if job.is_cancelled.is_set():
            jobs.move(job, "CANCELLED")
        elif code == 0:
            jobs.move(job, "SUCCEEDED")
        else:
            tail = "\n".join(words.strip().splitlines()[-10:])
            exited = f"{exit_words(job.replica, code)}\n{tail}"
            jobs.move(job, "FAILED", f"The image could not be run: {tail}" if code == _NOT_STARTED else exited)

    def _kill(self, name: str) -> None:
        command = [*self._client, "kill", name]
        subprocess.run(command, env=self._environ, capture_output=True, check=False)
        time.sleep(_POLL_S)


def exit_words(replica: str, code: int) -> str:
    """How the services word a failed container."""
    return f"The replica {replica} exited with a non-zero status of {code}."
