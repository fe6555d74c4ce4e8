"""A stand-in for Vertex AI's custom jobs (aiplatform v1), and for the token endpoint of a service account.

One server stands for the endpoints of all regions. In a test: ``with AiplatformV1(projects={"totoro-project"}) as
service: ...``; as a process of its own: ``python -m tests.standins.aiplatform_v1 --port-file F --key-file K --project
totoro-project [--docker "docker"]``, which is then steered by the paths below ``/_standin/`` (see
:meth:`AiplatformV1.control`). The command finds it by ``CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from caliban.clock import Clock
from tests.standins.custom_jobs import CustomJob, CustomJobs
from tests.standins.discovery import ApiError, Method
from tests.standins.faults import Fault
from tests.standins.google_api import permission_info
from tests.standins.oauth import ServiceAccount
from tests.standins.training import Quota, Runner, TrainingApi, serve_as_process

_JOBS = "aiplatform.projects.locations.customJobs"
_SCHEMA = "GoogleCloudAiplatformV1CustomJob"
_FIRST_NUMBER = 123456789012
_OVER_QUOTA = (
    "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit 'Resource management (CRUD) "
    "requests per minute per region' of service 'aiplatform.googleapis.com'."
)
ENDS = ("SUCCEEDED", "FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED")


class AiplatformV1(TrainingApi):
    """The service: its jobs, its account, what was asked of it, and what is to go wrong.

    Attributes:
        numbers: of the projects, by their ids; the names of jobs have them, and either may be sent.
        disabled: projects (their ids) in which the API is not enabled.
        locations: that there are.
        gpu_quota: GPU (``NVIDIA_L4``) -> how many of them one job may have; any number of others.
        jobs: see :class:`~tests.standins.custom_jobs.CustomJobs`, for its ``lag_s`` above all.
    """

    api, version = "aiplatform", "v1"
    served: ClassVar = {
        f"{_JOBS}.{name}": f"aiplatform.customJobs.{name}" for name in ("create", "get", "list", "cancel")
    }

    def __init__(
        self,
        projects: Collection[str] = ("totoro-project",),
        *,
        runner: Runner | None = None,
        quota: Quota | None = None,
        token_life_s: int = 3600,
        account: ServiceAccount | None = None,
        any_registry: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(projects, runner=runner, quota=quota, token_life_s=token_life_s, account=account, clock=clock)
        self.numbers = {project: str(_FIRST_NUMBER + index) for index, project in enumerate(sorted(projects))}
        self.disabled: set[str] = set()
        self.gpu_quota: dict[str, int] = {}
        # Multi-regions have endpoints too, but train nothing: https://cloud.google.com/vertex-ai/docs/general/locations
        self.locations = {found["location"] for found in self.discovery.document["endpoints"]} - {"us", "eu"}
        self.any_registry = any_registry
        self.forget_all()

    def forget_all(self) -> None:
        """Let there be no jobs."""
        self.jobs = CustomJobs(
            self.numbers, self._accepted, self.log_end, any_registry=self.any_registry, clock=self.clock
        )

    def check_project(self, method: Method) -> None:
        project, given = self._project(method), method.path["projectsId"]
        if project is None:
            info = _service_info("CONSUMER_INVALID", given)
            raise ApiError(403, f"Permission denied on resource project {given}.", details=[info])
        if project in self.disabled:
            number = self.numbers[project]
            raise ApiError(
                403,
                f"Vertex AI API has not been used in project {number} before or it is disabled. Enable it by visiting "
                "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project="
                f"{number} then retry.",
                details=[_service_info("SERVICE_DISABLED", number)],
            )
        if method.path["locationsId"] not in self.locations:
            raise self.denied(self.served[method.id], method)

    def denied(self, permission: str, method: Method) -> ApiError:
        place = f"projects/{method.path['projectsId']}/locations/{method.path['locationsId']}"
        resource = f"//aiplatform.googleapis.com/{place}"
        text = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
        return ApiError(403, text, details=[permission_info(permission, place)])

    def serve(self, method: Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        project, location = self._project(method), method.path["locationsId"]
        assert project is not None
        name = method.id.removeprefix(f"{_JOBS}.")
        if name == "get":
            return self.jobs.get(project, location, method.path["customJobsId"])
        if name == "list":
            fields = list(self.discovery.document["schemas"][_SCHEMA]["properties"])
            return self.jobs.list(project, location, query, fields)
        self.discovery.check_body(method, body, "custom_job")
        if name == "cancel":
            return self.jobs.cancel(project, location, method.path["customJobsId"])
        told = self.discovery.as_told({"$ref": _SCHEMA}, self.discovery.without_outputs(_SCHEMA, body))
        self.check_quota(_OVER_QUOTA)
        self._check_gpus(told)
        return self.jobs.create(project, location, told)

    def _check_gpus(self, body: Mapping[str, Any]) -> None:
        """Refuse a job with more GPUs than the project may have.

        The words are those of https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12; jobs with Spot
        VMs and flex start use quotas with ``preemptible`` in their names (the page ``schedule-jobs-dws``, "Quota").
        """
        spec = body.get("jobSpec") or {}
        asked: Counter[str] = Counter()
        for pool in spec.get("workerPoolSpecs") or []:
            machine = pool.get("machineSpec") or {}
            count = int(machine.get("acceleratorCount") or 0) * int(pool.get("replicaCount") or 0)
            asked[str(machine.get("acceleratorType"))] += count
        strategy = (spec.get("scheduling") or {}).get("strategy")
        kind = "preemptible_" if strategy in ("SPOT", "FLEX_START") else ""
        over = [gpu for gpu, count in asked.items() if count > self.gpu_quota.get(gpu, count)]
        if over:
            names = (f"{kind}{gpu.lower().replace('tesla_', '')}_gpus" for gpu in over)
            metrics = ", ".join(f"aiplatform.googleapis.com/custom_model_training_{name}" for name in names)
            raise ApiError(429, f"The following quota metrics exceed quota limits: {metrics}")

    def _project(self, method: Method) -> str | None:
        """The id of a project that was named by its id or its number."""
        ids = {**{number: project for project, number in self.numbers.items()}, **{one: one for one in self.numbers}}
        return ids.get(method.path["projectsId"])

    def _accepted(self, job: CustomJob) -> None:
        self.begin(job, self.jobs)

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """How another process steers the stand-in.

        ``GET /_standin/state``: ``{"counts": {method: n}, "jobs": [...], "requests": [...]}``; ``POST
        /_standin/faults``: a :class:`Fault` as JSON; ``POST /_standin/jobs``: ``{"name": ..., "state": ...,
        "errorMessage": ...}``; ``POST /_standin/lag``: ``{"seconds": ...}``.
        """
        steered = self.steered(path, given)
        if steered is not None:
            return steered
        if path == "/_standin/faults":
            self.faults.add(Fault(**given))
        elif path == "/_standin/jobs":
            self.jobs.set_state(given["name"], given["state"], given.get("errorMessage", ""))
        elif path == "/_standin/lag":
            self.jobs.lag_s = float(given["seconds"])
        else:
            asked = [one for one in self.requests if one.method.startswith(self.api)]
            sent = [{"method": one.method, "path": one.path, "body": one.body} for one in asked]
            jobs = [{"project": job.project, **job.answer()} for job in self.jobs.all()]
            return {"counts": dict(self.counts), "jobs": jobs, "requests": sent}
        return {}


def _service_info(reason: str, project: str) -> dict[str, Any]:
    """The ErrorInfo of a project that does not use the API, or does not exist."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"consumer": f"projects/{project}", "service": "aiplatform.googleapis.com"},
    }


if __name__ == "__main__":
    assert __doc__
    # A person's own registry is as good as Google's here: the images run on their Docker Engine.
    serve_as_process(__doc__, ENDS, lambda projects, runner: AiplatformV1(projects, runner=runner, any_registry=True))
