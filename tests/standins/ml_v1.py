"""A stand-in for AI Platform Training (ml v1), and for the token endpoint of a service account, on loopback.

In a test: ``with MlV1(projects={"totoro-project"}) as service: ...``; as a process of its own:
``python -m tests.standins.ml_v1 --port-file F --key-file K --project totoro-project [--docker "docker"]``, which is
then steered by the paths below ``/_standin/`` (see :meth:`MlV1.control`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tests.standins.discovery import ApiError, Method
from tests.standins.faults import Fault
from tests.standins.google_api import GoogleApi
from tests.standins.jobs import Job, Jobs
from tests.standins.runners import Docker, Scripted
from tests.standins.serving import stop_event


class Runner(Protocol):
    """What becomes of accepted jobs."""

    def run(self, job: Job, jobs: Jobs) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Quota:
    """So many submissions in so many seconds."""

    submissions: int
    window_s: float


class MlV1(GoogleApi):
    """The service: its jobs, its account, what was asked of it, and what is to go wrong."""

    api, version = "ml", "v1"
    served: ClassVar = {
        "ml.projects.jobs.create": "ml.jobs.create",
        "ml.projects.jobs.get": "ml.jobs.get",
        "ml.projects.jobs.list": "ml.jobs.list",
        "ml.projects.jobs.cancel": "ml.jobs.cancel",
    }

    def __init__(
        self,
        projects: Collection[str] = ("totoro-project",),
        *,
        runner: Runner | None = None,
        quota: Quota | None = None,
        token_life_s: int = 3600,
    ) -> None:
        super().__init__(projects, token_life_s=token_life_s)
        self.jobs = Jobs(self._accepted)
        self._runner = runner
        self._quota = quota
        self._submissions: deque[float] = deque()
        self._lock = threading.Lock()

    def check_project(self, method: Method) -> None:
        project = method.path["projectsId"]
        if project not in self.projects:
            raise ApiError(404, f"Field: parent Error: The project {project} was not found, or is not visible to you.")

    def serve(self, method: Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        project = method.path["projectsId"]
        if method.id == "ml.projects.jobs.get":
            return self.jobs.get(project, method.path["jobsId"])
        if method.id == "ml.projects.jobs.list":
            return self.jobs.list(project, query)
        self.discovery.check_body(method, body, "job")
        if method.id == "ml.projects.jobs.cancel":
            answer = self.jobs.cancel(project, method.path["jobsId"])
            if self._runner is None:
                self.jobs.set_state(method.path["jobsId"], "CANCELLED", "Cancelled by the user.", project=project)
            return answer
        self._check_quota()
        return self.jobs.create(project, self.discovery.without_outputs("GoogleCloudMlV1__Job", body))

    def _check_quota(self) -> None:
        if self._quota is None:
            return
        with self._lock:
            now = time.monotonic()
            while self._submissions and self._submissions[0] < now - self._quota.window_s:
                self._submissions.popleft()
            if len(self._submissions) >= self._quota.submissions:
                wait = max(1, round(self._submissions[0] + self._quota.window_s - now + 0.5))
                message = "Quota exceeded for quota metric 'Job submission requests'."
                raise ApiError(429, message, headers={"Retry-After": str(wait)})
            self._submissions.append(now)

    def _accepted(self, job: Job) -> None:
        runner = self._runner
        if runner is not None:
            self.in_background(lambda: runner.run(job, self.jobs))

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """How another process steers the stand-in.

        ``GET /_standin/state``: ``{"counts": {method: n}, "jobs": [...], "requests": [...]}``; ``POST
        /_standin/faults``: a :class:`Fault` as JSON; ``POST /_standin/jobs``: ``{"jobId": ..., "state": ...,
        "errorMessage": ...}``.
        """
        if path == "/_standin/faults":
            self.faults.add(Fault(**given))
        elif path == "/_standin/jobs":
            self.jobs.set_state(given["jobId"], given["state"], given.get("errorMessage", ""))
        else:
            sent = [{"method": r.method, "path": r.path, "body": r.body} for r in self.requests if r.method[:2] == "ml"]
            jobs = [{"project": job.project, **job.answer()} for job in self.jobs.all()]
            return {"counts": dict(self.counts), "jobs": jobs, "requests": sent}
        return {}


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="the endpoint's URL is written here, last of all")
    parser.add_argument("--key-file", type=Path, required=True, help="the service account's key is written here")
    parser.add_argument("--project", action="append", default=[], help="a project that there is; may be repeated")
    parser.add_argument("--docker", help="run accepted jobs with this Docker client: docker, docker -H unix://...")
    parser.add_argument("--outcome", choices=["SUCCEEDED", "FAILED"], help="let each job end like this")
    parser.add_argument("--step", type=float, default=0.0, help="seconds between states, with --outcome")
    given = parser.parse_args()
    runner: Runner | None = None
    if given.docker:
        runner = Docker(shlex.split(given.docker), os.environ)
    elif given.outcome:
        runner = Scripted(lambda job: str(given.outcome), given.step)
    over = stop_event()
    with MlV1(given.project or ["totoro-project"], runner=runner) as service:
        service.write_key_file(given.key_file)
        part = given.port_file.with_suffix(".part")
        part.write_text(service.url)
        part.replace(given.port_file)
        over.wait()


if __name__ == "__main__":
    main()
