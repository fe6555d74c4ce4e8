"""What the stand-ins for Google's two services that train share: a runner of accepted jobs, a quota, a process form."""

from __future__ import annotations

import argparse
import os
import shlex
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from caliban.clock import Clock, SystemClock
from tests.standins.discovery import ApiError
from tests.standins.faults import Fault
from tests.standins.google_api import GoogleApi
from tests.standins.logging_v2 import LoggingV2
from tests.standins.oauth import ServiceAccount
from tests.standins.runners import Docker, Scripted, Work, WorkPlace
from tests.standins.serving import Answer, Call, stop_event

Runner: TypeAlias = Docker | Scripted
"""What becomes of accepted jobs."""


@dataclass(frozen=True)
class Quota:
    """So many submissions in so many seconds."""

    submissions: int
    window_s: float


class TrainingApi(GoogleApi):
    """A service that accepts jobs and runs them.

    Attributes:
        runner: runs accepted jobs; None leaves them as they are.
        clock: of quotas, and of lists that lag behind.
        logging: Cloud Logging, at the same address; it has what accepted jobs write, where they are really run.
    """

    def __init__(
        self,
        projects: Collection[str],
        *,
        runner: Runner | None = None,
        quota: Quota | None = None,
        token_life_s: int = 3600,
        account: ServiceAccount | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(projects, token_life_s=token_life_s, account=account)
        self.runner = runner
        self.clock = clock or SystemClock()
        self.logging = LoggingV2(projects, account=self.account, clock=self.clock)
        if isinstance(runner, Docker):
            runner.on_line = self._log_line
        self._quota = quota
        self._submissions: deque[float] = deque()
        self._lock = threading.Lock()

    def name_of(self, call: Call) -> str:
        return self.logging.name_of(call) if _is_of_logs(call) else super().name_of(call)

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        return self.logging.answer(call, fault) if _is_of_logs(call) else super().answer(call, fault)

    def steered(self, path: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer what :meth:`LoggingV2.control` answers; None for any other path."""
        return self.logging.control(path, given) if path.startswith("/_standin/logs") else None

    def _log_line(self, job: Work, line: str, is_stderr: bool) -> None:
        task = job.replica.replace(" ", "-replica-")
        self.logging.write(job.id, line, project=job.project, task=task, severity="ERROR" if is_stderr else "INFO")

    def log_end(self, job: Work, state: str) -> None:
        """Log the end of a job, as the service does once all machines of the job have ended."""
        words = {"SUCCEEDED": "Job completed successfully.", "CANCELLED": "Job cancelled."}
        self.logging.write(job.id, words.get(state, "Job failed."), project=job.project, task="service")

    def check_quota(self, words: str) -> None:
        """Refuse a submission that is one too many, with ``words``; else count it."""
        if self._quota is None:
            return
        with self._lock:
            now = self.clock.monotonic()
            while self._submissions and self._submissions[0] < now - self._quota.window_s:
                self._submissions.popleft()
            if len(self._submissions) >= self._quota.submissions:
                wait = max(1, round(self._submissions[0] + self._quota.window_s - now + 0.5))
                raise ApiError(429, words, headers={"Retry-After": str(wait)})
            self._submissions.append(now)

    def begin(self, job: Work, jobs: WorkPlace) -> None:
        """Let the runner have an accepted job; without one, it stays as it is."""
        runner = self.runner
        if runner is not None:
            self.in_background(lambda: runner.run(job, jobs))

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()


def _is_of_logs(call: Call) -> bool:
    return call.path.startswith("/v2/")


def serve_as_process(
    description: str, outcomes: Sequence[str], make: Callable[[Collection[str], Runner | None], TrainingApi]
) -> None:
    """Serve until SIGTERM or SIGINT, as the command line says.

    Args:
        description: for ``--help``.
        outcomes: how a job may end.
        make: the service, of its projects and its runner.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port-file", type=Path, required=True, help="the endpoint's URL is written here, last of all")
    parser.add_argument("--key-file", type=Path, required=True, help="the service account's key is written here")
    parser.add_argument("--project", action="append", default=[], help="a project that there is; may be repeated")
    parser.add_argument("--docker", help="run accepted jobs with this Docker client: docker, docker -H unix://...")
    parser.add_argument("--outcome", choices=outcomes, help="let each job end like this")
    parser.add_argument("--step", type=float, default=0.0, help="seconds between states, with --outcome")
    given = parser.parse_args()
    runner: Runner | None = None
    if given.docker:
        runner = Docker(shlex.split(given.docker), os.environ)
    elif given.outcome:
        runner = Scripted(lambda job: str(given.outcome), given.step)
    over = stop_event()
    with make(given.project or ["totoro-project"], runner) as service:
        service.write_key_file(given.key_file)
        part = given.port_file.with_suffix(".part")
        part.write_text(service.url)
        part.replace(given.port_file)
        over.wait()
