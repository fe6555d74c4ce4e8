"""Vertex AI for tests: a recorded job, and the service."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from caliban.attempts import Submission
from caliban.platforms.retry import RetryPolicy
from caliban.platforms.vertex.details import VertexDestination, parse_details
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord, JobStatus
from tests.builders import a_submission
from tests.fakes import FakeClock
from tests.platforms.google.helpers import OTHER_PROJECT, POLICY, PROJECT, TOKEN, Backend
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.training import Quota

REGION = "us-central1"
IMAGE = "us-docker.pkg.dev/totoro-project/lab/cffd1475aaca:latest"
NEW_IMAGE = "us-docker.pkg.dev/totoro-project/lab/81b2087b5026:latest"
NAME = "caliban_totoro_20261125_110259_1"
RESOURCE = "projects/123456789012/locations/us-central1/customJobs/42"
GONE_PID = 2**22 + 1
"""No process has such a high id (https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html, pid_max)."""

SPEC: dict[str, Any] = {
    "displayName": "caliban_totoro_1",
    "labels": {
        "gpu_enabled": "false",
        "tpu_enabled": "false",
        "job_name": "caliban_totoro",
        "docker_image": "us-docker_pkg_devtotoro-projectlabcffd1475aacalatest",
        "foo": "3",
    },
    "jobSpec": {
        "workerPoolSpecs": [
            {
                "machineSpec": {"machineType": "e2-standard-8"},
                "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                "containerSpec": {"imageUri": IMAGE, "args": ["--foo", "3"]},
                "replicaCount": "1",
            }
        ],
        "scheduling": {"disableRetries": True},
    },
}


def submission(
    name: str = NAME, token: str = TOKEN, *, project: str = PROJECT, region: str = REGION, age_s: float = 0
) -> Submission:
    """Return a submission, as old as that by a new FakeClock, of a process that has ended."""
    return a_submission(
        platform="VERTEX",
        destination=VertexDestination(project, region).to_json(),
        token=token,
        name=name,
        pid=GONE_PID,
        created=FakeClock().utc_now() - timedelta(seconds=age_s),
    )


def recorded_job(
    name: str | None = RESOURCE,
    *,
    id: int = 1,
    display_name: str = NAME,
    project: str = PROJECT,
    region: str = REGION,
    status: JobStatus = JobStatus.SUBMITTED,
    **details: str,
) -> JobRecord:
    raw = {"project_id": project, "region": region, "name": name, "displayName": display_name, **details}
    return JobRecord(
        id=id,
        platform="VERTEX",
        spec_id=1,
        spec=SPEC,
        container=IMAGE,
        status=status,
        details=parse_details(status, raw),
        created=datetime(2026, 11, 25, 11, 3),
    )


def body(name: str = NAME, token: str | None = None) -> dict[str, Any]:
    labels = {**SPEC["labels"], **({"caliban_token": token} if token else {})}
    return {**SPEC, "displayName": name, "labels": labels}


class VertexBackend(Backend):
    service: AiplatformV1
    methods = "aiplatform.projects.locations.customJobs"
    permissions = "aiplatform.customJobs"
    name_key = "displayName"
    service_name = "Vertex AI"
    spec = SPEC
    bad_spec = (
        {**SPEC, "jobSpec": {**SPEC["jobSpec"], "serviceAccount": "me"}},
        "The service account must be given by its email address.",
    )
    no_image_spec: ClassVar = {"displayName": "x", "jobSpec": {"workerPoolSpecs": [{"containerSpec": {}}]}}
    image = IMAGE
    name = NAME

    def start(self, quota: Quota | None) -> AiplatformV1:
        return AiplatformV1([PROJECT, OTHER_PROJECT], quota=quota, clock=self.clock)

    def platform(self, policy: RetryPolicy = POLICY, **changes: Any) -> VertexPlatform:
        return VertexPlatform(self.context(**changes), policy)

    def destination(self, project: str = PROJECT) -> VertexDestination:
        return VertexDestination(project, REGION)

    def submission(self, name: str | None = None, token: str = TOKEN, project: str = PROJECT) -> Submission:
        return submission(name or NAME, token, project=project)

    def job(self, name: str | None = None, id: int = 1, project: str = PROJECT) -> JobRecord:
        return recorded_job(f"projects/{project}/locations/{REGION}/customJobs/{id}", id=id, project=project)

    def accept(
        self, name: str | None = None, id: int = 1, project: str = PROJECT, token: str = "a", region: str = REGION
    ) -> JobRecord:
        job = self.service.jobs.create(project, region, body(name or NAME, token))
        return recorded_job(job["name"], id=id, display_name=job["displayName"], project=project, region=region)

    def set_state(self, job: JobRecord, state: str, error: str = "") -> None:
        self.service.jobs.set_state(str(job.details.id), f"JOB_STATE_{state}", error)

    def jobs(self) -> list[tuple[str, str]]:
        return [(job.body["displayName"], str(job.labels.get("caliban_token"))) for job in self.service.jobs.all()]
