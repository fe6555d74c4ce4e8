"""What the tests of Vertex AI share: a recorded job, and a person's platform_context."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from caliban.platforms.base import PlatformContext
from caliban.platforms.retry import RetryPolicy
from caliban.records import JobRecord, JobStatus, PlatformName, Submission
from tests.platforms.caip import helpers
from tests.platforms.caip.helpers import HeardReporter
from tests.standins.aiplatform_v1 import AiplatformV1

PROJECT = "totoro-project"
REGION = "us-central1"
IMAGE = "us-docker.pkg.dev/totoro-project/lab/cffd1475aaca:latest"
NEW_IMAGE = "us-docker.pkg.dev/totoro-project/lab/81b2087b5026:latest"
TOKEN = "0123456789abcdef"
NAME = "caliban_totoro_20261125_110259_1"
RESOURCE = "projects/123456789012/locations/us-central1/customJobs/42"
GONE_PID = 2**22 + 1
"""No process has such a high id (https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html, pid_max)."""

QUICK = RetryPolicy(
    connect_timeout=5,
    read_timeout=5,
    initial_delay=0.01,
    max_delay=0.02,
    deadline=10,
    quota_deadline=10,
    consistency_delay=0.4,
)
SHORT = replace(QUICK, deadline=0.6, quota_deadline=0.6, consistency_delay=0.1)

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
        ]
    },
}


def platform_context(
    environ: Mapping[str, str] | None = None,
    *,
    service: AiplatformV1 | None = None,
    project_id: str | None = None,
    cloud_key: Path | None = None,
    reporter: HeardReporter | None = None,
) -> PlatformContext:
    endpoint = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": service.url} if service else {}
    return helpers.platform_context(
        {**endpoint, **(environ or {})}, project_id=project_id, cloud_key=cloud_key, reporter=reporter
    )


def submission(
    name: str = NAME, token: str = TOKEN, *, project: str = PROJECT, region: str = REGION, age_s: float = 0
) -> Submission:
    """A submission whose owner is gone."""
    return Submission(
        id=1,
        token=token,
        experiment_id=1,
        group="resubmit_test",
        job_spec_id=1,
        resubmits=None,
        platform=PlatformName.VERTEX,
        target={"project": project, "region": region},
        name=name,
        user="totoro",
        host=socket.gethostname(),
        pid=GONE_PID,
        created=datetime.now() - timedelta(seconds=age_s),
    )


def job_view(
    name: str | None = RESOURCE,
    *,
    id: int = 1,
    display_name: str = NAME,
    project: str = PROJECT,
    region: str = REGION,
    status: JobStatus = JobStatus.SUBMITTED,
) -> JobRecord:
    return JobRecord(
        id=id,
        platform=PlatformName.VERTEX,
        spec_id=1,
        spec=SPEC,
        container=IMAGE,
        status=status,
        details={"project_id": project, "region": region, "name": name, "displayName": display_name},
        created=datetime(2026, 11, 25, 11, 3),
    )


def body(name: str = NAME, token: str | None = None) -> dict[str, Any]:
    labels = {**SPEC["labels"], **({"caliban_token": token} if token else {})}
    return {**SPEC, "displayName": name, "labels": labels}
