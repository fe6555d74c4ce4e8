"""Custom jobs for the tests of the stand-in for Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.custom_jobs import CustomJob

PROJECT = "totoro-project"
LOCATION = "us-central1"
PLACE = f"projects/{PROJECT}/locations/{LOCATION}"
JOBS = f"v1/{PLACE}/customJobs"
CREATE = "aiplatform.projects.locations.customJobs.create"
POOL: Mapping[str, Any] = {
    "machineSpec": {"machineType": "n1-standard-4"},
    "replicaCount": "1",
    "containerSpec": {"imageUri": "us-docker.pkg.dev/totoro-project/lab/x@sha256:0", "args": ["--foo", "3"]},
}


def job_body(name: str = "a job", pool: Mapping[str, Any] = POOL, **fields: Any) -> dict[str, Any]:
    """The smallest job that is accepted, with more fields, or another worker pool."""
    return {"displayName": name, "jobSpec": {"workerPoolSpecs": [dict(pool)]}, **fields}


def add(service: AiplatformV1, name: str = "a job", **fields: Any) -> CustomJob:
    """Let the service have accepted a job."""
    service.jobs.create(PROJECT, LOCATION, job_body(name, **fields))
    return service.jobs.all()[-1]
