"""``caliban resubmit --dry_run`` shows what would be done, and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from caliban.records import JobStatus, JsonObject
from caliban.store.database import Access, Store, open_store
from tests.builders import (
    SHORT_IMAGE,
    add_group,
    latest_states,
    leave_open,
    submissions,
)
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import RecordingReporter

FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
GROUP = ("--xgroup", "resubmit_test")


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    """The recorded container spec of an existing project."""
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


def test_a_dry_run_says_how_to_give_up_a_job_that_cannot_be_asked_about(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    assert "give up what can never be asked again: caliban abandon --xgroup resubmit_test" in context.err


def test_a_dry_run_shows_everything_and_changes_nothing(
    store: Store, project: JsonObject, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, container_spec=project)
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    assert context.out == (
        "the following jobs would be resubmitted:\n"
        "cpu.py --foo 3 --sleep 1\n"
        f"  job 2        FAILED        TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: fake-2\n"
        "\n"
        "container images:\n"
        f"  docker config 1, for 1 job: would be rebuilt from {project['build_path']} (job_mode: CPU)\n"
        "\n"
        "left out:\n"
        "  cpu.py --foo 3 --sleep 0 (experiment 1, job 1): succeeded\n"
        "\n"
        "nothing was submitted: to resubmit these jobs, run this command without --dry_run\n"
    )
    assert (context.err, submissions(store)) == ("", [])


def test_a_dry_run_shows_current_states_and_does_not_record_them(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(FAILED=[1]))
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "\n  job 1        FAILED  " in context.out
    assert latest_states(store) == ["RUNNING"]


def test_a_dry_run_marks_states_that_could_not_be_refreshed(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(unavailable=[1]))
    call(context, "resubmit", *GROUP, "--dry_run", "--all_jobs")
    assert "(last known state; no route)\n" in context.out


def test_a_dry_run_skips_what_another_process_is_submitting(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    one, _ = add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"}).experiments
    leave_open(store, one, host="catbus", pid=4711, renewed=context.clock.utc_now())
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "(experiment 1, job 1): being submitted by totoro on catbus (process 4711) since" in context.out


def test_a_dry_run_reads_a_store_that_was_never_upgraded(
    home: Path, context: ScreenContext, reporter: RecordingReporter
) -> None:
    peer = Path(__file__).parent.parent / "data" / "peer_stores" / "walkthrough_caip.sqlite"
    (home / ".caliban").mkdir()
    shutil.copy(peer, home / ".caliban" / "caliban.db")
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    with open_store(f"sqlite:///{home}/.caliban/caliban.db", Access.READ, reporter) as store:
        assert not store.has_journal


def test_a_dry_run_lists_who_is_left_out_and_why(store: Store, project: JsonObject, context: ScreenContext) -> None:
    add_group(store, FAILED, FAILED, SUCCEEDED, container_spec=project)
    call(context, "resubmit", *GROUP, "--dry_run", "--job", "1,3")
    left_out = context.out.partition("left out:\n")[2].splitlines()[:2]
    assert left_out == [
        "  cpu.py --foo 3 --sleep 1 (experiment 2, job 2): not named with --job",
        "  cpu.py --foo 3 --sleep 2 (experiment 3, job 3): succeeded",
    ]
