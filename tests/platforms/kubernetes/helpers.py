"""Shared by the tests of clusters: the recorded job of caliban 0.4.2, pods and conditions, validation by schema."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import kubernetes_validate  # type: ignore[import-untyped]

from caliban.attempts import Submission
from caliban.errors import ImageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.details import (
    ClusterDestination,
    GkeDestination,
    KubeconfigDestination,
    parse_details,
)
from caliban.platforms.retry import RetryPolicy
from caliban.records import JobRecord, JobStatus, JsonObject, NewJob, PlatformId
from tests.builders import a_submission
from tests.fakes import FakeClock, RecordingReporter
from tests.standins.container_v1 import ContainerV1

QUICK = RetryPolicy(connect_timeout=5, read_timeout=5)

PEER_STORE = Path(__file__).parents[2] / "data" / "peer_stores" / "mixed.sqlite"
VERSIONS = ("1.30", "1.33", "1.36")
TOKEN = "0123456789abcdef"
IMAGE = "gcr.io/totoro-project/cffd1475aaca:latest"
NEW_IMAGE = "gcr.io/totoro-project/81b2087b5026:latest"
NAME = "job-stop-test-0123456789"
GKE_DESTINATION = GkeDestination("totoro-project", "us-central1-a", "blueshift", namespace="default")
DESTINATION = KubeconfigDestination("lab", namespace="default")
DESTINATION_TYPES: Mapping[PlatformId, type[ClusterDestination]] = {
    "GKE": GkeDestination,
    "KUBERNETES": KubeconfigDestination,
}
OUR_LABELS = {"caliban.token": TOKEN, "caliban.group": "mixed", "caliban.experiment": "6"}


def peer_record(column: str, statement: str) -> dict[str, Any]:
    """Return what caliban 0.4.2 wrote into a column of JSON."""
    with sqlite3.connect(f"file:{PEER_STORE}?mode=ro", uri=True) as store:
        ((text,),) = store.execute(f"SELECT {column} FROM {statement}")
    read: dict[str, Any] = json.loads(text)
    return read


PEER_SPEC = peer_record("spec", "job_specs WHERE platform = 'GKE'")
PEER_DETAILS = peer_record("details", "jobs JOIN job_specs ON job_spec_id = job_specs.id WHERE platform = 'GKE'")


def no_engine() -> NoReturn:
    raise ImageError("docker-unreachable", "these tests need no Docker Engine")


def platform_context(
    environ: Mapping[str, str] | None = None,
    *,
    kubeconfig: Path | None = None,
    gke: ContainerV1 | None = None,
    project_id: str | None = None,
    cloud_key: Path | None = None,
    reporter: RecordingReporter | None = None,
) -> PlatformContext:
    """Return the context of a user with a kubeconfig, or with access to GKE. Nobody waits for its clock."""
    variables = {"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}
    if gke:
        variables["CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER"] = gke.url
    options = {"project_id": project_id, "cloud_key": cloud_key}
    environ = {**variables, **(environ or {})}
    return PlatformContext(
        environ, Path("/nonexistent"), reporter or RecordingReporter(), no_engine, options, FakeClock()
    )


def submission(
    name: str = NAME,
    token: str = TOKEN,
    destination: ClusterDestination = DESTINATION,
    *,
    experiment_id: int = 6,
) -> Submission:
    return a_submission(
        token=token,
        experiment_id=experiment_id,
        group="mixed",
        job_spec_id=7,
        resubmits=7,
        platform="GKE" if isinstance(destination, GkeDestination) else "KUBERNETES",
        destination=destination.to_json(),
        name=name,
        pid=1,
        created=datetime(2021, 1, 1, 9, 7),
    )


def job_record(
    details: JsonObject,
    *,
    id: int = 7,
    status: JobStatus = JobStatus.SUBMITTED,
    platform: PlatformId = "KUBERNETES",
) -> JobRecord:
    return JobRecord(
        id=id,
        platform=platform,
        spec_id=id,
        spec=PEER_SPEC,
        container=IMAGE,
        status=status,
        details=parse_details(DESTINATION_TYPES[platform], status, details),
        created=datetime(2021, 1, 1, 9, 7),
    )


def record_of(new: NewJob, *, id: int = 7, platform: PlatformId = "KUBERNETES") -> JobRecord:
    """Return the record of a job that was just submitted."""
    return job_record(new.details.raw, id=id, status=new.status, platform=platform)


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


def job(*conditions: Mapping[str, str], suspend: bool = False, **counts: int) -> dict[str, Any]:
    """Return a job as a cluster reports it."""
    spec = {"suspend": True} if suspend else {}
    return {"metadata": {"name": "x"}, "spec": spec, "status": {"conditions": [*conditions], **counts}}


def failed(reason: str = "BackoffLimitExceeded", message: str = "Job has reached the specified backoff limit") -> Any:
    return job(condition("Failed", reason=reason, message=message))


def pod(*containers: Mapping[str, Any], created: str = "2026-11-25T13:00:00Z", **status: Any) -> dict[str, Any]:
    """Return a pod whose containers are in the given states."""
    return {
        "metadata": {"creationTimestamp": created},
        "status": {"containerStatuses": [{"state": state} for state in containers], **status},
    }


def ended(exit_code: int, reason: str = "Error", **more: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, **more}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def assert_valid(manifest: Mapping[str, Any]) -> None:
    """Check a manifest against the schemas of three versions of Kubernetes, without unknown fields."""
    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(json.dumps(manifest)), version, strict=True)
