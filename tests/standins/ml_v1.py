"""A stand-in for AI Platform Training (ml v1), and for the token endpoint of a service account, on loopback.

In a test: ``with MlV1(projects={"totoro-project"}) as service: ...``; as a process of its own:
``python -m tests.standins.ml_v1 --port-file F --key-file K --project totoro-project [--docker "docker"]``, which is
then steered by the paths below ``/_standin/`` (see :meth:`MlV1.control`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from caliban.clock import Clock
from tests.standins.discovery import ApiError, Method
from tests.standins.faults import Fault
from tests.standins.jobs import Job, Jobs
from tests.standins.training import Quota, Runner, TrainingApi, serve_as_process


class MlV1(TrainingApi):
    """The service: its jobs, its account, what was asked of it, and what is to go wrong.

    Attributes:
        end: the answer to every request once the service was shut down; None before.
    """

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
        clock: Clock | None = None,
    ) -> None:
        super().__init__(projects, runner=runner, quota=quota, token_life_s=token_life_s, clock=clock)
        self.jobs = Jobs(self._accepted, self.log_end)
        self.end: ApiError | None = None

    def check_project(self, method: Method) -> None:
        if self.end is not None:
            raise self.end
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
            if self.runner is None:
                self.jobs.move(self.jobs.find(method.path["jobsId"], project), "CANCELLED")
            return answer
        self.check_quota("Quota exceeded for quota metric 'Job submission requests'.")
        return self.jobs.create(project, self.discovery.without_outputs("GoogleCloudMlV1__Job", body))

    def _accepted(self, job: Job) -> None:
        self.begin(job, self.jobs)

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """How another process steers the stand-in.

        ``GET /_standin/state``: ``{"counts": {method: n}, "jobs": [...], "requests": [...]}``; ``POST
        /_standin/faults``: a :class:`Fault` as JSON; ``POST /_standin/jobs``: ``{"jobId": ..., "state": ...,
        "errorMessage": ...}``.
        """
        steered = self.steered(path, given)
        if steered is not None:
            return steered
        if path == "/_standin/faults":
            self.faults.add(Fault(**given))
        elif path == "/_standin/jobs":
            self.jobs.set_state(given["jobId"], given["state"], given.get("errorMessage", ""))
        else:
            sent = [{"method": r.method, "path": r.path, "body": r.body} for r in self.requests if r.method[:2] == "ml"]
            jobs = [{"project": job.project, **job.answer()} for job in self.jobs.all()]
            return {"counts": dict(self.counts), "jobs": jobs, "requests": sent}
        return {}


def shut_down() -> ApiError:
    """What Google answers since the shutdown.

    Source: https://github.com/hashicorp/terraform-provider-google/issues/22249
    """
    words = "Cloud AI Platform has been deprecated. Please use Vertex AI (https://cloud.google.com/vertex-ai) instead."
    return ApiError(400, words)


if __name__ == "__main__":
    assert __doc__
    serve_as_process(__doc__, ["SUCCEEDED", "FAILED"], lambda projects, runner: MlV1(projects, runner=runner))
