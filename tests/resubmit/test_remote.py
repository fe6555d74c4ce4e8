"""``caliban resubmit`` of jobs that run elsewhere, and on a machine where nobody has logged in to Google Cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.errors import PlatformError
from caliban.records import JobStatus, JsonObject, PlatformId
from caliban.store.database import Store
from tests.builders import IMAGE, add_group, latest_states, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fakes import FakeEngine, FakeService, Pushed

GROUP = ("--xgroup", "resubmit_test")
FAILED, RUNNING = JobStatus.FAILED, JobStatus.RUNNING
AT_HERE = "registry.example.com/here/abababababab:latest"
CAIP_SPEC: JsonObject = {
    "jobId": "caliban_totoro_1",
    "labels": {},
    "trainingInput": {"masterConfig": {"imageUri": "lab:1"}, "region": "us-central1", "args": []},
}


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


def test_the_image_is_built_brought_there_and_run_as_the_document_tells(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Pushed.take)
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
        "1 job: 1 submitted",
    ]


def test_the_new_job_is_recorded_with_the_image_s_name_there(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Pushed.take)
    remote.expect("submit", remote.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert f"container: {AT_HERE}" in context.out


def test_an_image_that_cannot_be_brought_there_is_told_and_nothing_is_recorded(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(IMAGE)
    remote.expect("push", Pushed.refuse)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert ("[fake-registry-full]" in context.err, submissions(store)) == (True, [])


def test_a_platform_out_of_reach_is_told_before_the_question(
    store: Store, project: JsonObject, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, container_spec=project)
    remote.out_of_reach = PlatformError("fake-unreachable", "the fake platform cannot be reached", hint="wait")
    assert call(context, "resubmit", *GROUP) == 1
    assert ("[fake-unreachable]" in context.err, "do you wish" in context.err) == (True, False)


def test_an_image_by_name_needs_no_engine(store: Store, remote: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    remote.expect("submit", remote.accept)
    context.environ["DOCKER_HOST"] = "unix:///nowhere/none.sock"  # type: ignore[index]  # a dict in tests
    assert call(context, "resubmit", *GROUP, "--yes") == 0


def add_caip_group(store: Store, state: JobStatus) -> None:
    add_group(store, state, container_spec={"image_id": "lab:1"}, platform="CAIP", job_spec=CAIP_SPEC)


@pytest.mark.usefixtures("no_google_login")
def test_without_a_login_how_to_get_one_is_told_before_the_question(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    assert call(context, "resubmit", *GROUP) == 1
    told = "there are no Google credentials [no-credentials]", "gcloud auth application-default login", "do you wish"
    assert [words in context.err for words in told] == [True, True, False]


@pytest.mark.usefixtures("no_google_login")
def test_without_a_login_nothing_is_written_down(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    call(context, "resubmit", *GROUP, "--yes")
    assert (submissions(store), latest_states(store)) == ([], ["FAILED"])


@pytest.mark.usefixtures("no_google_login")
def test_a_dry_run_needs_no_login(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    assert (call(context, "resubmit", *GROUP, "--dry_run"), context.err) == (0, "")


@pytest.mark.usefixtures("no_google_login")
def test_a_key_that_is_not_there_is_told(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    assert call(context, "resubmit", *GROUP, "--cloud_key", "/nowhere/key.json") == 1
    assert "there is no credentials file /nowhere/key.json [key-not-found]" in context.err
