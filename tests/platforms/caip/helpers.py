"""AI Platform Training for tests: a job that caliban 0.4.2 recorded, and the service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from caliban.attempts import Submission
from caliban.platforms.caip.details import CaipDestination, parse_details
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.retry import RetryPolicy
from caliban.records import JobRecord, JobStatus
from tests.builders import a_submission
from tests.platforms.google.helpers import OTHER_PROJECT, POLICY, PROJECT, TOKEN, Backend
from tests.standins.ml_v1 import MlV1
from tests.standins.training import Quota

IMAGE = "gcr.io/totoro-project/cffd1475aaca:latest"
NEW_IMAGE = "gcr.io/totoro-project/81b2087b5026:latest"
NAME = "caliban_totoro_20200529_110259_1"

PEER_SPEC: dict[str, Any] = {
    "jobId": "caliban_totoro_1",
    "labels": {
        "gpu_enabled": "false",
        "tpu_enabled": "false",
        "job_name": "caliban_totoro",
        "docker_image": "gcr_iototoro-projectcffd1475aacalatest",
        "foo": "3",
    },
    "trainingInput": {
        "masterConfig": {
            "imageUri": IMAGE,
            "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
        },
        "scaleTier": "CUSTOM",
        "masterType": "n1-highcpu-32",
        "region": "us-central1",
        "args": ["--foo", "3", "--sleep", "1"],
    },
}
"""As in the store of the user document, tests/data/peer_stores/walkthrough_caip.sqlite."""


def submission(name: str = NAME, token: str = TOKEN, project: str = PROJECT) -> Submission:
    destination, created = CaipDestination(project).to_json(), datetime(2020, 5, 29, 11, 3, 1)
    return a_submission(platform="CAIP", destination=destination, token=token, name=name, pid=1, created=created)


def recorded_job(
    job_id: str | None = NAME, *, id: int = 1, project: str = PROJECT, status: JobStatus = JobStatus.SUBMITTED
) -> JobRecord:
    return JobRecord(
        id=id,
        platform="CAIP",
        spec_id=1,
        spec=PEER_SPEC,
        container=IMAGE,
        status=status,
        details=parse_details(status, {"jobId": job_id, "project_id": project}),
        created=datetime(2020, 5, 29, 10, 53, 40),
    )


def body(job_id: str = NAME, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {**PEER_SPEC, "jobId": job_id, "labels": {**PEER_SPEC["labels"], **(labels or {})}}


class CaipBackend(Backend):
    service: MlV1
    methods = "ml.projects.jobs"
    permissions = "ml.jobs"
    name_key = "jobId"
    service_name = "AI Platform"
    prefix = ""
    spec = PEER_SPEC
    bad_spec = (
        {**PEER_SPEC, "trainingInput": {**PEER_SPEC["trainingInput"], "scaleTier": "LARGE"}},
        "Invalid value at 'job.training_input.scale_tier'",
    )
    no_image_spec: ClassVar = {"jobId": "x", "trainingInput": {"masterConfig": {}}}
    image = IMAGE
    name = NAME

    def start(self, quota: Quota | None) -> MlV1:
        return MlV1([PROJECT, OTHER_PROJECT], quota=quota, clock=self.clock)

    def platform(self, policy: RetryPolicy = POLICY, **changes: Any) -> CaipPlatform:
        return CaipPlatform(self.context(**changes), policy)

    def destination(self, project: str = PROJECT) -> CaipDestination:
        return CaipDestination(project)

    def submission(self, name: str | None = None, token: str = TOKEN, project: str = PROJECT) -> Submission:
        return submission(name or NAME, token, project)

    def job(self, name: str | None = None, id: int = 1, project: str = PROJECT) -> JobRecord:
        return recorded_job(name or NAME, id=id, project=project)

    def accept(self, name: str | None = None, id: int = 1, project: str = PROJECT, token: str = "a") -> JobRecord:
        self.service.jobs.create(project, body(name or NAME, {"caliban_token": token}))
        return self.job(name, id, project)

    def set_state(self, job: JobRecord, state: str, error: str = "") -> None:
        self.service.jobs.set_state(str(job.details.id), state, error)

    def jobs(self) -> list[tuple[str, str]]:
        return [(job.id, str(job.body["labels"].get("caliban_token"))) for job in self.service.jobs.all()]
