"""``caliban resubmit`` of jobs of AI Platform Training, which was shut down, with and without ``--platform``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.base import ServiceRetiredError
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Store
from caliban.store.models import JobRow
from tests.builders import add_group, read_group, submissions
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeEngine
from tests.platforms.caip.helpers import IMAGE, PEER_SPEC
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.ml_v1 import MlV1, shut_down

GROUP = ("--xgroup", "resubmit_test")
TO_VERTEX = ("resubmit", *GROUP, "--platform", "vertex")
MIGRATE = "caliban resubmit --xgroup resubmit_test --platform vertex"
FAILED, RUNNING, SUCCEEDED = JobStatus.FAILED, JobStatus.RUNNING, JobStatus.SUCCEEDED
CAIP = "CAIP"
EXISTING_IMAGE: JsonObject = {"image_id": IMAGE}
WITH_JOB_DIR: JsonObject = {**PEER_SPEC, "trainingInput": {**PEER_SPEC["trainingInput"], "jobDir": "gs://lab/out"}}
WITH_TPU: JsonObject = {**PEER_SPEC, "trainingInput": {**PEER_SPEC["trainingInput"], "masterType": "cloud_tpu"}}
CREATE = "aiplatform.projects.locations.customJobs.create"


@pytest.fixture
def vertex(context: ScreenContext, tmp_path: Path) -> Iterator[AiplatformV1]:
    """Vertex AI, with a key of the user."""
    with AiplatformV1() as running:
        environ = {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": running.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(running.write_key_file(tmp_path / "key.json")),
            "PROJECT_ID": "totoro-project",
        }
        context.environ.update(environ)  # type: ignore[attr-defined]  # a dict in tests
        yield running


@pytest.fixture
def retired(context: ScreenContext, vertex: AiplatformV1) -> Iterator[MlV1]:
    """AI Platform after its shutdown, for the same account."""
    with MlV1() as running:
        running.account = vertex.account
        running.end = shut_down()
        context.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = running.url  # type: ignore[index]  # a dict in tests
        yield running


def add_caip(store: Store, *states: JobStatus | None, spec: JsonObject = PEER_SPEC) -> None:
    add_group(store, *states, container_spec=EXISTING_IMAGE, platform=CAIP, job_spec=spec)


def platforms_of(store: Store) -> list[str]:
    """Return the platform of the latest job of each experiment."""
    return [str(each.latest.platform) for each in read_group(store).experiments if each.latest]


def test_a_failed_job_is_migrated_and_no_other(store: Store, vertex: AiplatformV1, context: ScreenContext) -> None:
    add_caip(store, FAILED, SUCCEEDED)
    assert call(context, *TO_VERTEX, "--yes") == 0
    assert (platforms_of(store), vertex.counts[CREATE]) == (["VERTEX", "CAIP"], 1)


def test_the_request_is_the_migrated_job(store: Store, vertex: AiplatformV1, context: ScreenContext) -> None:
    add_caip(store, FAILED)
    call(context, *TO_VERTEX, "--yes")
    [submission] = submissions(store)
    assert vertex.bodies(CREATE) == [
        {
            "displayName": submission.name,
            "labels": {
                **PEER_SPEC["labels"],
                "docker_image": "gcr_iototoro-projectcffd1475aacalatest",
                "caliban_token": submission.token,
            },
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        "machineSpec": {"machineType": "n1-highcpu-32"},
                        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                        "containerSpec": {"imageUri": IMAGE, "args": ["--foo", "3", "--sleep", "1"]},
                        "replicaCount": "1",
                    }
                ],
                "scheduling": {"disableRetries": True},
            },
        }
    ]


def test_the_new_job_is_the_next_attempt_of_its_experiment(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED)
    call(context, *TO_VERTEX, "--yes")
    [experiment] = read_group(store, all_jobs=True).experiments
    [submission] = submissions(store)
    assert [job.platform for job in experiment.jobs] == [CAIP, "VERTEX"]
    assert (submission.resubmits, submission.destination) == (
        experiment.jobs[0].id,
        {"project": "totoro-project", "region": "us-central1"},
    )


def test_a_migrated_job_is_run_there_again_with_and_without_the_flag(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED)
    for words in (TO_VERTEX, TO_VERTEX, ("resubmit", *GROUP)):
        assert call(context, *words, "--yes", "--all_jobs") == 0
    assert [submission.platform for submission in submissions(store)] == ["VERTEX"] * 3


def test_an_experiment_without_a_job_follows_a_migrated_sibling(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, SUCCEEDED, None)
    assert call(context, *TO_VERTEX, "--yes") == 0
    [sent] = vertex.bodies(CREATE)
    assert sent["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] == ["--foo", "3", "--sleep", "1"]
    assert sent["labels"]["sleep"] == "1"


def test_dropped_settings_are_reported_before_the_question(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED, FAILED, spec=WITH_JOB_DIR)
    assert call(context, *TO_VERTEX) == 1
    assert context.out.splitlines()[5:] == [
        "2 jobs would be moved to VERTEX",
        "some settings would change:",
        "  jobDir: Vertex AI does not pass --job-dir to the program; directories in it are in $AIP_MODEL_DIR, "
        "$AIP_CHECKPOINT_DIR and $AIP_TENSORBOARD_LOG_DIR (2 jobs)",
    ]
    assert "do you wish to resubmit these 2 jobs?" in context.err
    assert vertex.counts[CREATE] == 0


@pytest.mark.usefixtures("no_google_login")
def test_a_dry_run_reports_dropped_settings_without_a_connection(store: Store, context: ScreenContext) -> None:
    add_caip(store, FAILED, spec=WITH_JOB_DIR)
    assert call(context, *TO_VERTEX, "--dry_run") == 0
    assert ("1 job would be moved to VERTEX" in context.out, "  jobDir: " in context.out) == (True, True)


@pytest.mark.usefixtures("service")
def test_jobs_of_other_platforms_are_reported_and_the_rest_is_migrated(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED)
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    assert call(context, *TO_VERTEX, "--yes") == 1
    assert "cannot migrate jobs on TEST to Vertex AI [not-translatable]" in context.err
    assert (platforms_of(store), vertex.counts[CREATE]) == (["VERTEX", "TEST"], 1)


def test_a_job_that_cannot_be_migrated_is_reported_with_the_reason(
    store: Store, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED, spec=WITH_TPU)
    assert call(context, *TO_VERTEX, "--yes") == 1
    assert ("[not-translatable]" in context.err, "it uses TPUs" in context.err) == (True, True)
    assert (submissions(store), vertex.requests) == ([], [])


def test_without_the_flag_one_message_names_the_command_that_migrates(
    store: Store, retired: MlV1, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_caip(store, FAILED, FAILED, FAILED)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert context.err.count("[service-gone]") == 1
    assert (MIGRATE in context.err, "AI Platform Training was shut down by Google on 2025-01-31" in context.err) == (
        True,
        True,
    )
    assert "and 2 more jobs" in context.err


def test_without_the_flag_nothing_is_recorded_and_the_service_is_queried_once(
    store: Store, retired: MlV1, context: ScreenContext
) -> None:
    add_caip(store, FAILED, FAILED, FAILED)
    before = read_group(store, all_jobs=True)
    call(context, "resubmit", *GROUP, "--yes")
    assert (submissions(store), read_group(store, all_jobs=True)) == ([], before)
    assert retired.counts["ml.projects.jobs.list"] == 1


def test_jobs_of_two_projects_are_reported_in_one_message(store: Store, retired: MlV1, context: ScreenContext) -> None:
    add_caip(store, FAILED, FAILED)
    with store.writing() as session:
        session.query(JobRow).filter_by(id=2).update({"details": {"project_id": "zoo-project", "jobId": "x"}})
    call(context, "resubmit", *GROUP, "--yes")
    assert (context.err.count("[service-gone]"), retired.counts["ml.projects.jobs.list"]) == (1, 2)


def test_without_the_flag_jobs_of_other_platforms_are_submitted(
    store: Store, retired: MlV1, service: FakeService, context: ScreenContext
) -> None:
    add_caip(store, FAILED)
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert [submission.platform for submission in submissions(store)] == ["TEST"]


def test_status_keeps_the_last_known_states_with_one_warning(
    store: Store, retired: MlV1, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING, RUNNING, container_spec=EXISTING_IMAGE, platform=CAIP, job_spec=PEER_SPEC)
    with store.writing() as session:
        for number in (1, 2, 3):
            details = {"project_id": "totoro-project", "jobId": f"job_{number}"}
            session.query(JobRow).filter_by(id=number).update({"details": details})
    assert call(context, "status", *GROUP) == 0
    assert context.out.count("(last known state; the service was shut down)") == 3
    about_the_service, about_the_jobs = context.err.splitlines()
    assert "AI Platform Training was shut down" in about_the_service
    assert about_the_jobs.endswith("caliban abandon --xgroup resubmit_test")


def test_all_jobs_migrates_jobs_that_were_running_at_the_shutdown(
    store: Store, retired: MlV1, vertex: AiplatformV1, context: ScreenContext
) -> None:
    add_caip(store, RUNNING)
    assert call(context, *TO_VERTEX, "--yes", "--all_jobs") == 0
    assert (platforms_of(store), vertex.counts[CREATE]) == (["VERTEX"], 1)


def test_new_jobs_are_refused_with_the_flag_that_helps(
    retired: MlV1, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    (context.cwd / "cpu.py").write_text("")
    with pytest.raises(ServiceRetiredError) as caught:
        call(context, "cloud", "--platform", "caip", "--nogpu", "cpu.py")
    assert caught.value.hint is not None
    assert "omit --platform caip" in caught.value.hint
    assert not (context.home / ".caliban").exists()


def test_a_migrated_job_gets_changed_arguments(store: Store, vertex: AiplatformV1, context: ScreenContext) -> None:
    add_caip(store, FAILED)
    assert call(context, *TO_VERTEX, "--yes", "--", "--foo", "4") == 0
    [body] = vertex.bodies(CREATE)
    assert body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"] == ["--foo", "4", "--sleep", "0"]
    assert "1 job would be moved to VERTEX" in context.out
