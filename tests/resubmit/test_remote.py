"""``caliban resubmit`` of jobs that run elsewhere, also on a machine without a Google login."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.errors import ImageError, PlatformError
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Store
from tests.builders import IMAGE, add_group, latest_states, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import Push
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeEngine

GROUP = ("--xgroup", "resubmit_test")
FAILED, RUNNING = JobStatus.FAILED, JobStatus.RUNNING
IN_ZONE_A = "registry.example.com/zone-a/abababababab:latest"
CAIP_SPEC: JsonObject = {
    "jobId": "caliban_totoro_1",
    "labels": {},
    "trainingInput": {"masterConfig": {"imageUri": "lab:1"}, "region": "us-central1", "args": []},
}


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


def test_the_image_is_built_pushed_and_run_as_in_the_document(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept)
    context = make_context("y\n")
    assert call(context, "resubmit", *GROUP) == 0
    assert context.err.splitlines()[1:] == [
        " do you wish to resubmit these 1 jobs? [yN]: y",
        "rebuilding containers...",
        "Submitting request!",
        "job 2 was accepted",
        "https://jobs.example.com/2",
        "fake logs 2",
        "1 experiment: 1 submitted",
    ]


def test_the_new_job_is_recorded_with_the_image_in_the_registry(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert f"container: {IN_ZONE_A}" in context.out


def test_a_failed_push_is_reported_and_nothing_is_recorded(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert ("[fake-registry-full]" in context.err, submissions(store)) == (True, [])


def test_an_unreachable_platform_is_reported_before_the_question(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, container_spec=project)
    remote.connection_error = PlatformError("fake-unreachable", "cannot reach the fake platform", hint="wait")
    assert call(context, "resubmit", *GROUP) == 1
    assert ("[fake-unreachable]" in context.err, "do you wish" in context.err) == (True, False)


def test_an_existing_image_needs_no_engine(store: Store, remote: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    remote.expect("submit", remote.accept)
    context.environ["DOCKER_HOST"] = "unix:///nowhere/none.sock"  # type: ignore[index]  # a dict in tests
    assert call(context, "resubmit", *GROUP, "--yes") == 0


def test_every_check_is_made_exactly_once(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", *[remote.accept] * 3)
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert (remote.connections, remote.registry_checks) == ([FakeDestination()], [(None, "zone-a")])


def test_a_registry_that_accepts_no_images_is_reported_before_the_question(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, container_spec=project)
    remote.registry_error = ImageError("repository-missing", "the repository does not exist")
    assert call(context, "resubmit", *GROUP) == 1
    assert ("[repository-missing]" in context.err, "do you wish" in context.err) == (True, False)


def test_a_dry_run_makes_no_check_with_a_connection(
    store: Store, project: JsonObject, remote: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    assert (remote.connections, remote.registry_checks) == ([], [])


def add_caip_group(store: Store, state: JobStatus) -> None:
    add_group(store, state, container_spec={"image_id": "lab:1"}, platform="CAIP", job_spec=CAIP_SPEC)


@pytest.mark.usefixtures("no_google_login")
def test_a_missing_login_is_reported_before_the_question_with_the_command_that_helps(
    store: Store, context: ScreenContext
) -> None:
    add_caip_group(store, FAILED)
    assert call(context, "resubmit", *GROUP) == 1
    texts = ("[no-credentials]", "gcloud auth application-default login", "do you wish")
    assert [text in context.err for text in texts] == [True, True, False]


@pytest.mark.usefixtures("no_google_login")
def test_without_a_login_nothing_is_recorded(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    call(context, "resubmit", *GROUP, "--yes")
    assert (submissions(store), latest_states(store)) == ([], ["FAILED"])


@pytest.mark.usefixtures("no_google_login")
def test_a_dry_run_needs_no_login(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    assert (call(context, "resubmit", *GROUP, "--dry_run"), context.err) == (0, "")


@pytest.mark.usefixtures("no_google_login")
def test_a_missing_key_file_is_reported(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    assert call(context, "resubmit", *GROUP, "--cloud_key", "/nowhere/key.json") == 1
    assert "/nowhere/key.json [key-not-found]" in context.err
