"""``--json`` of the commands that submit, stop, build and list clusters, on each platform, also where jobs fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.attempts import Submission
from caliban.errors import CalibanError, ImageError
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob
from caliban.store.database import Store
from tests.builders import IMAGE, OTHER_IMAGE, add_group, leave_open
from tests.calls import call, result_of
from tests.commands.test_cluster import GROUP as CLUSTER
from tests.commands.test_cluster import cluster, gke, google_user, user
from tests.commands.test_run import local, start
from tests.conftest import ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeService
from tests.fakes import FakeEngine
from tests.platforms.vertex.helpers import IMAGE as CLOUD_IMAGE
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi, Quota

__all__ = ["cluster", "gke", "google_user", "local", "user"]

FAILED, SUCCEEDED, RUNNING, STOPPED = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.STOPPED
XGROUP = ("--xgroup", "resubmit_test")
CONFIG = ("--nogpu", "--experiment_config", "experiment.json")
RUN = ("run", *XGROUP, *CONFIG, "cpu.py", "--json")
CREATE = "aiplatform.projects.locations.customJobs.create"
CLOUD = ("cloud", *XGROUP, *CONFIG, "--image_tag", CLOUD_IMAGE, "--json")


def document(context: ScreenContext) -> Any:
    return json.loads(context.out)


@pytest.fixture(autouse=True)
def project(cwd: Path) -> JsonObject:
    """A project with an experiment file; returns its container spec."""
    (cwd / "cpu.py").write_text("")
    (cwd / "experiment.json").write_text('{"sleep": [2, 1]}')
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


@pytest.fixture
def vertex() -> Iterator[AiplatformV1]:
    with AiplatformV1(projects=["totoro-project"]) as running:
        yield running


@pytest.fixture
def person(context: ScreenContext, vertex: AiplatformV1, tmp_path: Path) -> ScreenContext:
    """Somebody with a key for the stand-in."""
    key = vertex.write_key_file(tmp_path / "key.json")
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": vertex.url,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": vertex.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
    }
    return replace(context, environ=environ)


def states(found: Any) -> list[tuple[str | None, str | None, bool]]:
    """The state, the id of the error, and whether it is well, of each job."""
    return [
        (each["job"]["state"] if each["job"] else None, each["error"]["id"] if each["error"] else None, each["ok"])
        for each in found["jobs"]
    ]


def test_a_run_has_the_end_of_each_job(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    local.expect("submit", start, start)
    local.expect("follow", end(SUCCEEDED, ret_code=0), end(FAILED, ret_code=1))
    assert call(context, *RUN) == 1
    found = document(context)
    assert (found["schema"], found["exit_code"], found["platform"]) == ("caliban.submit/1", 1, "LOCAL")
    assert states(found) == [("SUCCEEDED", None, True), ("FAILED", None, False)]
    assert [each["experiment"]["kwargs"] for each in found["jobs"]] == [{"sleep": 2}, {"sleep": 1}]
    assert [each["job_ids"] for each in found["summary"]["causes"]] == [[2]]


def test_a_run_whose_image_fails_is_an_error_document(
    local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed", cause="exit code 1"))
    found = result_of(context, *RUN)
    assert (found["schema"], found["id"], found["cause"]) == ("caliban.error/1", "build-step-failed", "exit code 1")


def test_a_run_that_is_interrupted_has_what_ran(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    def interrupt(job: JobRecord) -> JobUpdate:
        raise KeyboardInterrupt

    fake_engine.expect(IMAGE)
    local.expect("submit", start)
    local.expect("follow", interrupt)
    local.expect("stop", end(STOPPED))
    found = result_of(context, *RUN)
    assert (found["schema"], found["error"]["id"], states(found)) == (
        "caliban.submit/1",
        "interrupted",
        [("STOPPED", None, False)],
    )
    assert (found["summary"]["attempts"], found["summary"]["not_started"]) == (2, 1)


def test_a_command_that_was_complete_before_has_no_attempts(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, None)
    found = result_of(context, "run", "--dry_run", *XGROUP, *CONFIG, "cpu.py", "--json")
    assert (found["schema"], found["action"], len(found["jobs"])) == ("caliban.submit-plan/1", "run", 2)


def test_a_plan_for_vertex_ai_has_the_requests_with_verbose(person: ScreenContext, vertex: AiplatformV1) -> None:
    assert call(person, *CLOUD, "--dry_run", "-v", "--project_id", "totoro-project", "cpu.py") == 0
    found = document(person)
    assert (found["platform"], found["image"]["image"], "displayName" in found["requests"]) == (
        "VERTEX",
        CLOUD_IMAGE,
        True,
    )


def test_accepted_jobs_of_vertex_ai_have_their_destination_and_links(
    store: Store, vertex: AiplatformV1, person: ScreenContext
) -> None:
    assert call(person, *CLOUD, "cpu.py") == 0
    assert states(document(person)) == [("SUBMITTED", None, True)] * 2
    [first, _] = document(person)["jobs"]
    assert first["job"]["destination"] == {"project": "totoro-project", "region": "us-central1"}
    assert any("console.cloud.google.com" in link for link in first["job"]["links"])


def test_a_refusal_of_vertex_ai_is_the_error_of_its_job(
    store: Store, vertex: AiplatformV1, person: ScreenContext
) -> None:
    vertex.faults.add(Fault(CREATE, "status", status=400, times=1))
    assert call(person, *CLOUD, "cpu.py") == 1
    found = document(person)
    [refused] = [each for each in found["jobs"] if not each["ok"]]
    assert (refused["job"]["state"], refused["job"]["cause"]) == ("FAILED", "refused")
    assert refused["error"]["id"]
    assert [each["cause"] for each in found["summary"]["causes"]] == ["refused"]


def test_a_refusal_of_a_cluster_is_the_error_of_its_job(store: Store, cluster: KubeApi, user: ScreenContext) -> None:
    cluster.quota = Quota("compute", 1)
    assert call(user, *CLUSTER, "--json", "cpu.py") == 1
    found = document(user)
    [(error, refused)] = [(each["error"], each["job"]) for each in found["jobs"] if not each["ok"]]
    assert (refused["state"], refused["cause"]) == ("FAILED", "refused")
    assert "exceeded quota: compute" in (refused["reason"] + json.dumps(error))
    assert found["summary"]["states"]["SUBMITTED"] == 1


def test_a_plan_for_a_cluster_has_its_destination(user: ScreenContext) -> None:
    call(user, *CLUSTER, "--dry_run", "--context", "lab", "--json", "cpu.py")
    assert document(user)["destination"]["context"] == "lab"


def test_an_export_names_its_file(user: ScreenContext, cwd: Path) -> None:
    call(user, *CLUSTER, "--export", "jobs.yaml", "--json", "cpu.py")
    found = document(user)
    assert (found["schema"], found["file"], len(found["jobs"])) == ("caliban.export/1", str(cwd / "jobs.yaml"), 2)


def test_the_jobs_of_a_cluster_have_their_state_and_group(store: Store, cluster: KubeApi, user: ScreenContext) -> None:
    call(user, *CLUSTER, "cpu.py")
    user.screen.stdout.truncate(user.screen.stdout.seek(0))
    call(user, "cluster", "job", "ls", "--json")
    assert [(each["state"], each["group"]) for each in document(user)["jobs"]] == [("SUBMITTED", "resubmit_test")] * 2


def test_the_clusters_of_a_project_are_listed(google_user: ScreenContext, gke: ContainerV1) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1"))
    call(google_user, "cluster", "ls", "--project_id", "totoro-project", "--json")
    found = document(google_user)
    assert (found["kubeconfig"], found["contexts"]) == (None, [])
    assert [each["name"] for each in found["project"]["clusters"]] == ["blueshift"]


@pytest.mark.slow
def test_clusters_of_the_kubeconfig_are_listed_although_the_project_fails(user: ScreenContext) -> None:
    found = result_of(user, "cluster", "ls", "--project_id", "totoro-project", "--json")
    assert (found["schema"], bool(found["error"]["id"]), len(found["contexts"])) == ("caliban.clusters/1", True, 2)


def test_a_rerun_names_the_job_that_it_repeats(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext, project: JsonObject
) -> None:
    add_group(store, FAILED, SUCCEEDED, STOPPED, container_spec=project)

    def answer(spec: JsonObject, submission: Submission) -> NewJob:  # jobs are submitted side by side
        return (service.refuse if submission.resubmits == 3 else service.accept)(spec, submission)

    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", answer, answer)
    assert call(context, "resubmit", *XGROUP, "--yes", "--json") == 1
    found = document(context)
    assert states(found) == [("SUBMITTED", None, True), ("FAILED", "fake-quota", False)]
    assert [each["resubmits"] for each in found["jobs"]] == [1, 3]
    assert [each["job"]["id"] for each in found["left_out"]] == [2]


def test_a_job_whose_image_failed_is_not_lost_when_others_are_interrupted(
    store: Store, foreground: FakeService, fake_engine: FakeEngine, context: ScreenContext, project: JsonObject
) -> None:
    def interrupt(job: JobRecord) -> JobUpdate:
        raise KeyboardInterrupt

    add_group(store, FAILED, container_spec=project)
    add_group(store, None, FAILED, container_spec={"image_id": "lab:1"})
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed"))
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt)
    foreground.expect("stop", end(STOPPED))
    found = result_of(context, "resubmit", *XGROUP, "--yes", "--json")
    assert found["error"]["id"] == "interrupted"
    assert (None, "build-step-failed", False) in states(found)
    assert ("STOPPED", None, False) in states(found)


def test_a_job_that_was_stopped_is_well(store: Store, service: FakeService, context: ScreenContext) -> None:
    def fail(job: JobRecord) -> JobUpdate:
        raise CalibanError("fake-unreachable", "cannot stop it")

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2]))
    service.expect("stop", end(STOPPED), fail)
    assert call(context, "stop", *XGROUP, "--yes", "--json") == 1
    assert states(document(context)) == [("STOPPED", None, True), ("RUNNING", "fake-unreachable", False)]


def test_a_stop_that_is_interrupted_has_what_was_stopped(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    def interrupt(job: JobRecord) -> JobUpdate:
        raise KeyboardInterrupt

    add_group(store, RUNNING, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2, 3]))
    service.expect("stop", end(STOPPED), interrupt)
    found = result_of(context, "stop", *XGROUP, "--yes", "--json")
    assert (found["error"]["id"], states(found)) == ("interrupted", [("STOPPED", None, True)])
    assert found["summary"]["not_started"] == 2


def test_what_was_given_up_is_counted(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    call(context, "abandon", *XGROUP, "--yes", "--json")
    found = document(context)
    assert (found["schema"], found["given_up"], len(found["jobs"])) == ("caliban.abandon/1", 1, 1)


def test_a_submission_in_doubt_is_listed_and_the_exit_code_says_so(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group = add_group(store, None)
    leave_open(store, group.experiments[0], pid=2**22 + 1)
    service.expect("find", service.fail_to_connect)
    assert call(context, "status", *XGROUP, "--json") == 1
    found = document(context)
    assert ([each["name"] for each in found["in_doubt"]], found["exit_code"]) == (["fake-0123456789abcdef"], 1)


def test_a_build_has_its_image(fake_engine: FakeEngine, context: ScreenContext) -> None:
    fake_engine.expect(IMAGE)
    call(context, "build", "--nogpu", "cpu.py", "--json")
    assert document(context)["image"] == IMAGE
