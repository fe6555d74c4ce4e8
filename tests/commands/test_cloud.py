"""``caliban cloud`` with existing images: the requests, and a fake Vertex AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import UsageError
from caliban.records import JobStatus
from caliban.store.database import Store
from tests.builders import read_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.standins.aiplatform_v1 import AiplatformV1

IMAGE = "us-docker.pkg.dev/totoro-project/lab/cffd1475aaca:latest"
DRY = ("cloud", "--dry_run", "-v", "--xgroup", "resubmit_test", "--image_tag", IMAGE, "--project_id", "totoro-project")
CREATE = "aiplatform.projects.locations.customJobs.create"


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    return cwd


@pytest.fixture
def service() -> Iterator[AiplatformV1]:
    with AiplatformV1(projects=["totoro-project"]) as running:
        yield running


@pytest.fixture
def user(context: ScreenContext, service: AiplatformV1, tmp_path: Path) -> ScreenContext:
    """The context of a user with a key for the fake Vertex AI."""
    key = service.write_key_file(tmp_path / "key.json")
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": service.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
    }
    return replace(context, environ=environ)


def requests(out: str) -> list[dict[str, Any]]:
    """Return the requests that a dry run shows."""
    begin, end = out.index("{"), out.rindex("}") + 1
    return [json.loads(text) for text in out[begin:end].replace("}\n{", "}\0{").split("\0")]


def test_a_dry_run_shows_the_whole_request_for_vertex_ai(context: ScreenContext) -> None:
    assert call(context, *DRY, "--nogpu", "--name", "lab", "cpu.py", "--", "--foo", "3") == 0
    [request] = requests(context.out)
    assert request.pop("displayName").startswith("lab_")
    assert request == {
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "lab",
            "docker_image": "us-docker_pkg_devtotoro-projectlabcffd1475aacalatest",
            "foo": "3",
            "caliban_token": "token",
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


def test_every_flag_of_vertex_ai_is_in_the_request(context: ScreenContext) -> None:
    machines = ("--machine_type", "n1-standard-8", "--gpu_spec", "2xT4", "--worker_count", "3", "--disk_size", "250")
    terms = ("--spot", "--timeout", "1h30m", "--service_account", "a@b.c", "--network", "projects/1/global/networks/n")
    assert call(context, *DRY, *machines, *terms, "--label", "team=vision", "cpu.py") == 0
    [request] = requests(context.out)
    pool = {
        "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2},
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 250},
        "containerSpec": {"imageUri": IMAGE, "args": []},
    }
    assert request["jobSpec"] == {
        "workerPoolSpecs": [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "2"}],
        "scheduling": {"strategy": "SPOT", "timeout": "5400s"},
        "serviceAccount": "a@b.c",
        "network": "projects/1/global/networks/n",
    }
    assert request["labels"]["team"] == "vision"
    assert "each job, on Vertex AI: 3 machines, each 2xT4 on n1-standard-8 in us-central1" in context.out


def test_a_dry_run_for_ai_platform_shows_its_request(context: ScreenContext) -> None:
    assert call(context, *DRY, "--platform", "caip", "--region", "us-west1", "cpu.py") == 0
    [request] = requests(context.out)
    assert request["trainingInput"] == {
        "masterConfig": {"imageUri": IMAGE, "acceleratorConfig": {"count": 1, "type": "NVIDIA_TESLA_P100"}},
        "scaleTier": "CUSTOM",
        "masterType": "n1-standard-8",
        "region": "us-west1",
        "args": [],
    }


def test_a_dry_run_needs_no_project(context: ScreenContext) -> None:
    assert call(context, "cloud", "--dry_run", "-v", "--nogpu", "cpu.py") == 0
    [request] = requests(context.out)
    [pool] = request["jobSpec"]["workerPoolSpecs"]
    assert pool["containerSpec"]["imageUri"] == "gcr.io/your-project/IMAGE:latest"


def test_the_project_can_configure_the_service(context: ScreenContext, cwd: Path) -> None:
    (cwd / ".calibanconfig.json").write_text('{"cloud_platform": "caip"}')
    assert call(context, *DRY, "cpu.py") == 0
    assert "each job, on AI Platform Training: 1xP100 on n1-standard-8 in us-central1" in context.out


def test_the_flag_overrides_the_configured_service(context: ScreenContext, cwd: Path) -> None:
    (cwd / ".calibanconfig.json").write_text('{"cloud_platform": "caip"}')
    assert call(context, *DRY, "--platform", "vertex", "cpu.py") == 0
    assert "each job, on Vertex AI: 1xL4 on g2-standard-8 in us-central1" in context.out


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--service_account", ["a@b.c"]),
        ("--network", ["projects/1/global/networks/n"]),
        ("--spot", []),
        ("--timeout", ["24h"]),
        ("--disk_size", ["200"]),
        ("--worker_count", ["2"]),
    ],
)
def test_a_flag_that_the_service_does_not_support_is_an_error(
    context: ScreenContext, flag: str, value: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, *DRY, "--platform", "caip", flag, *value, "cpu.py")
    assert caught.value.id == "flag-not-on-platform"
    assert caught.value.message == f"AI Platform Training does not support {flag}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90m", 5400), ("3600", 3600), ("3600s", 3600), ("7d", 604800), ("1d2h3m4s", 93784)],
)
def test_a_timeout_is_read_in_days_hours_minutes_and_seconds(context: ScreenContext, text: str, seconds: int) -> None:
    call(context, *DRY, "--timeout", text, "cpu.py")
    [request] = requests(context.out)
    assert request["jobSpec"]["scheduling"] == {"timeout": f"{seconds}s"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--timeout", "1h30"),
        ("--timeout", "soon"),
        ("--timeout", "0"),
        ("--timeout", ""),
        ("--disk_size", "99"),
        ("--worker_count", "0"),
        ("--worker_count", "many"),
        ("--platform", "gke"),
    ],
)
def test_an_invalid_value_is_an_error(context: ScreenContext, arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"^{arguments[0]}: "):
        call(context, *DRY, *arguments, "cpu.py")


def test_machines_that_do_not_exist_are_an_error_unless_forced(context: ScreenContext) -> None:
    odd = ("--gpu_spec", "1xL4", "--region", "europe-west9", "cpu.py")
    with pytest.raises(UsageError, match="europe-west9 has no L4"):
        call(context, *DRY, *odd)
    assert call(context, *DRY, "--force", *odd) == 0


def test_jobs_are_submitted_to_the_requested_region_and_recorded_with_it(
    store: Store, service: AiplatformV1, user: ScreenContext
) -> None:
    here = ("cloud", "--xgroup", "resubmit_test", "--nogpu", "--image_tag", IMAGE, "--region", "europe-west4")
    assert call(user, *here, "cpu.py", "--", "--foo", "3") == 0
    [accepted] = service.jobs.all()
    job = read_group(store).experiments[0].jobs[0]
    assert (job.platform, job.status, job.container) == ("VERTEX", JobStatus.SUBMITTED, IMAGE)
    assert job.details.raw == {
        "project_id": "totoro-project",
        "region": "europe-west4",
        "name": accepted.name,
        "displayName": accepted.body["displayName"],
    }
    assert accepted.location == "europe-west4"
    assert service.counts[CREATE] == 1


def test_an_accepted_job_is_reported_with_its_links(store: Store, service: AiplatformV1, user: ScreenContext) -> None:
    call(user, "cloud", "--nogpu", "--image_tag", IMAGE, "cpu.py")
    [accepted] = service.jobs.all()
    assert f"https://console.cloud.google.com/agent-platform/locations/us-central1/training/{accepted.id}" in user.err
    assert f"gcloud ai custom-jobs stream-logs {accepted.id} --region us-central1 --project totoro-project" in user.err
