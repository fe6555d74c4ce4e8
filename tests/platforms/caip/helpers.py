"""What the tests of AI Platform share: a recorded job of caliban 0.4.2, and a person's platform_context."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from caliban.errors import ImageError
from caliban.platforms.base import PlatformContext
from caliban.platforms.retry import RetryPolicy
from caliban.records import JobRecord, JobStatus, PlatformName, Submission
from caliban.reporter import Progress
from tests.standins.ml_v1 import MlV1

PROJECT = "totoro-project"
IMAGE = "gcr.io/totoro-project/cffd1475aaca:latest"
NEW_IMAGE = "gcr.io/totoro-project/81b2087b5026:latest"
TOKEN = "0123456789abcdef"
NAME = "caliban_totoro_20200529_110259_1"

QUICK = RetryPolicy(
    connect_timeout=5, read_timeout=5, initial_delay=0.01, max_delay=0.02, deadline=10, quota_deadline=10
)
SHORT = replace(QUICK, deadline=0.6, quota_deadline=0.6)

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
"""As in the walk-through's store, tests/data/peer_stores/walkthrough_caip.sqlite."""


class HeardReporter:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"warning: {line}")

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("a job in the cloud writes nothing here")

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        raise AssertionError("the platform shows no progress of its own")


def no_engine() -> NoReturn:
    raise ImageError("docker-unreachable", "AI Platform needs no Docker Engine")


def platform_context(
    environ: Mapping[str, str] | None = None,
    *,
    service: MlV1 | None = None,
    project_id: str | None = None,
    cloud_key: Path | None = None,
    reporter: HeardReporter | None = None,
) -> PlatformContext:
    endpoint = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": service.url} if service else {}
    heard = reporter or HeardReporter()
    return PlatformContext(
        {**endpoint, **(environ or {})}, Path("/nonexistent"), heard, no_engine, project_id, cloud_key
    )


def submission(name: str = NAME, token: str = TOKEN, project: str = PROJECT) -> Submission:
    return Submission(
        id=1,
        token=token,
        experiment_id=1,
        group="resubmit_test",
        job_spec_id=1,
        resubmits=None,
        platform=PlatformName.CAIP,
        target={"project": project},
        name=name,
        user="totoro",
        host="here",
        pid=1,
        created=datetime(2020, 5, 29, 11, 3, 1),
    )


def job_view(
    job_id: str | None = NAME, *, id: int = 1, project: str = PROJECT, status: JobStatus = JobStatus.SUBMITTED
) -> JobRecord:
    return JobRecord(
        id=id,
        platform=PlatformName.CAIP,
        spec_id=1,
        spec=PEER_SPEC,
        container=IMAGE,
        status=status,
        details={"jobId": job_id, "project_id": project},
        created=datetime(2020, 5, 29, 10, 53, 40),
    )


def body(job_id: str = NAME, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {**PEER_SPEC, "jobId": job_id, "labels": {**PEER_SPEC["labels"], **(labels or {})}}
