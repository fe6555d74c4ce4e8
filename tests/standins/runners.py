"""What becomes of an accepted job: a script's end, or what its container really does on a Docker Engine."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tests.standins.jobs import FINAL, Job, Jobs

_POLL_S = 0.05
_NOT_STARTED = 125  # `docker run` itself failed


class Scripted:
    """Each job goes through its states in ``step_s`` seconds each, to the end that ``outcome`` gives it."""

    def __init__(self, outcome: Callable[[Job], str], step_s: float = 0.0) -> None:
        self._outcome = outcome
        self._step_s = step_s
        self._closing = threading.Event()

    def run(self, job: Job, jobs: Jobs) -> None:
        """Take one job to its end."""
        end = self._outcome(job)
        error = exit_words(1) if end == "FAILED" else ""
        for state in ("PREPARING", "RUNNING", end):
            end_of_step = time.monotonic() + self._step_s
            while not job.is_cancelled.is_set() and time.monotonic() < end_of_step:
                if self._closing.wait(min(_POLL_S, self._step_s)):
                    return
            if job.is_cancelled.is_set():
                jobs.set_state(job.id, "CANCELLED", "Cancelled by the user.", project=job.project)
                return
            jobs.set_state(job.id, state, error if state in FINAL else "", project=job.project)

    def close(self) -> None:
        """Leave every job as it is."""
        self._closing.set()


class Docker:
    """Each job's ``masterConfig.imageUri`` runs with its ``args``; its exit code is the job's end."""

    def __init__(self, client: Sequence[str], environ: Mapping[str, str]) -> None:
        self._client = tuple(client)
        self._environ = dict(environ)
        self._names: list[str] = []
        self._closing = threading.Event()

    def run(self, job: Job, jobs: Jobs) -> None:
        """Run one job's container, and wait for its end."""
        given = job.body["trainingInput"]
        name = f"standin-{job.project}-{job.id}-{time.monotonic_ns()}"
        command = [*self._client, "run", "--rm", "--name", name, given["masterConfig"]["imageUri"]]
        jobs.set_state(job.id, "PREPARING", project=job.project)
        self._names.append(name)
        process = subprocess.Popen(
            [*command, *given.get("args", [])],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        jobs.set_state(job.id, "RUNNING", project=job.project)
        words: list[bytes] = []
        reader = threading.Thread(target=lambda: words.append(process.stderr.read() if process.stderr else b""))
        reader.start()
        while process.poll() is None:
            if job.is_cancelled.wait(_POLL_S) or self._closing.is_set():
                self._kill(name)
        reader.join()
        self._names.remove(name)
        self._record(job, jobs, process.returncode, b"".join(words).decode("utf-8", "replace"))

    def close(self) -> None:
        """End every container that still runs."""
        self._closing.set()
        for name in list(self._names):
            self._kill(name)

    def _record(self, job: Job, jobs: Jobs, code: int, words: str) -> None:
        if job.is_cancelled.is_set():
            jobs.set_state(job.id, "CANCELLED", "Cancelled by the user.", project=job.project)
        elif code == 0:
            jobs.set_state(job.id, "SUCCEEDED", project=job.project)
        else:
            tail = "\n".join(words.strip().splitlines()[-10:])
            error = f"The image could not be run: {tail}" if code == _NOT_STARTED else f"{exit_words(code)}\n{tail}"
            jobs.set_state(job.id, "FAILED", error, project=job.project)

    def _kill(self, name: str) -> None:
        command = [*self._client, "kill", name]
        subprocess.run(command, env=self._environ, capture_output=True, check=False)
        time.sleep(_POLL_S)


def exit_words(code: int) -> str:
    """How the service words a failed container."""
    return f"The replica master 0 exited with a non-zero status of {code}."
