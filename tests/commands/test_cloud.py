"""``caliban cloud``: which service gets what. Images that are there already, and a stand-in for Vertex AI."""

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
from tests.platforms.vertex.helpers import IMAGE, SPEC
from tests.standins.aiplatform_v1 import AiplatformV1

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
def person(context: ScreenContext, service: AiplatformV1, tmp_path: Path) -> ScreenContext:
    """Somebody with a key for the stand-in."""
    key = service.write_key_file(tmp_path / "key.json")
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": service.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": service.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
    }
    return replace(context, environ=environ)


def requests(out: str) -> list[dict[str, Any]]:
    """The requests that a dry run showed."""
    begin, end = out.index("{"), out.rindex("}") + 1
    return [json.loads(text) for text in out[begin:end].replace("}\n{", "}\0{").split("\0")]


def test_a_dry_run_shows_the_whole_request_for_vertex_ai(context: ScreenContext) -> None:
    assert call(context, *DRY, "--nogpu", "--name", "lab", "cpu.py", "--", "--foo", "3") == 0
    [request] = requests(context.out)
    assert request.pop("displayName").startswith("lab_")
    labels = {**SPEC["labels"], "job_name": "lab", "caliban_token": "token"}
    assert request == {"labels": labels, "jobSpec": SPEC["jobSpec"]}


def test_a_dry_run_needs_no_project(context: ScreenContext) -> None:
    assert call(context, "cloud", "--dry_run", "-v", "--nogpu", "cpu.py") == 0
    [request] = requests(context.out)
    [pool] = request["jobSpec"]["workerPoolSpecs"]
    assert pool["containerSpec"]["imageUri"] == "gcr.io/your-project/IMAGE:latest"


def test_the_project_can_choose_the_service(context: ScreenContext, cwd: Path) -> None:
    (cwd / ".calibanconfig.json").write_text('{"cloud_platform": "caip"}')
    assert call(context, *DRY, "cpu.py") == 0
    assert "each job, on AI Platform Training: 1xP100 on n1-standard-8 in us-central1" in context.out


def test_the_flag_overrides_the_project(context: ScreenContext, cwd: Path) -> None:
    (cwd / ".calibanconfig.json").write_text('{"cloud_platform": "caip"}')
    assert call(context, *DRY, "--platform", "vertex", "cpu.py") == 0
    assert "each job, on Vertex AI: 1xL4 on g2-standard-8 in us-central1" in context.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--platform", "caip", "--spot"), "AI Platform Training does not support --spot"),
        (("--gpu_spec", "1xL4", "--region", "europe-west9"), "not available on Vertex AI: europe-west9 has no L4"),
        (("--timeout", "soon"), '--timeout: expected a duration such as 24h, 90m, 1h30m or 3600, got "soon"'),
        (("--worker_count", "0"), '--worker_count: expected an integer >= 1, got "0"'),
        (("--platform", "gke"), '--platform: invalid choice "gke" (choose from vertex, caip)'),
    ],
)
def test_a_wrong_flag_is_wrong_usage(context: ScreenContext, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, *DRY, *arguments, "cpu.py")
    assert caught.value.message == message


def test_jobs_go_to_the_chosen_region_and_are_recorded_with_it(
    store: Store, service: AiplatformV1, person: ScreenContext
) -> None:
    here = ("cloud", "--xgroup", "resubmit_test", "--nogpu", "--image_tag", IMAGE, "--region", "europe-west4")
    assert call(person, *here, "cpu.py", "--", "--foo", "3") == 0
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


def test_an_accepted_job_is_reported_with_its_links(store: Store, service: AiplatformV1, person: ScreenContext) -> None:
    call(person, "cloud", "--nogpu", "--image_tag", IMAGE, "cpu.py")
    [accepted] = service.jobs.all()
    assert f"https://console.cloud.google.com/agent-platform/locations/us-central1/training/{accepted.id}" in person.err
    assert (
        f"gcloud ai custom-jobs stream-logs {accepted.id} --region us-central1 --project totoro-project" in person.err
    )


def test_the_output_of_a_failed_job_is_shown(store: Store, service: AiplatformV1, person: ScreenContext) -> None:
    call(person, "cloud", "--xgroup", "resubmit_test", "--nogpu", "--image_tag", IMAGE, "cpu.py", "--", "--foo", "3")
    [accepted] = service.jobs.all()
    number = str(accepted.name).rpartition("/")[2]
    for text in ("Traceback (most recent call last):", "ValueError: loss is nan at step 17"):
        service.logging.write(number, text)
    error = "The replica workerpool0-0 exited with a non-zero status of 1."
    service.jobs.set_state(accepted.name, "JOB_STATE_FAILED", error)
    before = len(person.out)
    assert call(person, "logs", "--xgroup", "resubmit_test", "--failed", "--tail", "1") == 0
    assert person.out[before:] == "== job 1  cpu.py --foo 3  FAILED  exit code 1\nValueError: loss is nan at step 17\n"
