"""Where the output of jobs and the listing of the command that runs them go: never to standard output together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from caliban.attempts import Submission
from caliban.platforms import registry
from caliban.records import JobRecord, JobStatus, JobUpdate, NewJob, PlatformId
from caliban.store.database import Store
from tests.builders import OTHER_IMAGE, add_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_platform import end
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

from .test_run import start

GROUP = ("--xgroup", "resubmit_test")


def writing(context: ScreenContext, update: Callable[[JobRecord], JobUpdate]) -> Callable[[JobRecord], JobUpdate]:
    """Return an answer for ``expect("follow", ...)``: a job that writes to both of its streams, and ends."""

    def follow(job: JobRecord) -> JobUpdate:
        context.console.job_output(b"result 42\n", is_stderr=False)
        context.console.job_output(b"a log line\n", is_stderr=True)
        return update(job)

    return follow


@pytest.fixture
def local(foreground: FakeService, monkeypatch: pytest.MonkeyPatch, cwd: Path) -> FakeService:
    """The service of the platform LOCAL."""
    (cwd / "cpu.py").write_text("")
    table = cast(dict[PlatformId, registry.Entry], registry._BUILT_IN)
    entry = replace(table["LOCAL"], platform="tests.commands.test_run:FakeLocalPlatform")
    monkeypatch.setitem(table, "LOCAL", entry)
    return foreground


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_standard_output_of_run_is_that_of_the_jobs(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext, status: JobStatus
) -> None:
    local.expect("submit", start)
    local.expect("follow", writing(context, end(status)))
    call(context, "run", *GROUP, "--image_id", "lab:1", "cpu.py")
    assert context.out == "result 42\n"


def test_standard_error_of_run_has_the_jobs_and_their_results(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", writing(context, end(JobStatus.SUCCEEDED)))
    call(context, "run", *GROUP, "--image_id", "lab:1", "cpu.py")
    output, _, listing = context.err.partition("job 1: succeeded\n")
    assert "a log line\n" in output
    assert listing.startswith("cpu.py\n  job 1        SUCCEEDED    LOCAL ")


def test_run_without_running_anything_lists_on_standard_output(
    store: Store, local: FakeService, context: ScreenContext
) -> None:
    call(context, "run", *GROUP, "--image_id", "lab:1", "--dry_run", "cpu.py")
    assert context.out.startswith("the following jobs would be run, ")


def test_standard_output_of_resubmit_has_the_plan_and_the_results_only(
    store: Store, foreground: FakeService, fake_engine: FakeEngine, context: ScreenContext, cwd: Path
) -> None:
    (cwd / "cpu.py").write_text("")
    project = {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}
    add_group(store, JobStatus.FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    foreground.expect("submit", running)
    foreground.expect("follow", writing(context, end(JobStatus.SUCCEEDED)))
    call(context, "resubmit", *GROUP, "--yes")

    plan, command, _, *results = context.out.splitlines()
    assert (plan, command) == ("the following jobs would be resubmitted:", "cpu.py --foo 3 --sleep 0")
    assert (results[0], len(results)) == (command, 2)
    assert "result 42\na log line\n" in context.err


def running(spec: dict[str, object], submission: Submission) -> NewJob:
    return NewJob(str(spec["image"]), JobStatus.RUNNING)
