from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest

from caliban.attempts import SubmissionState
from caliban.errors import StoreError
from caliban.records import JobDetails, JobRecord, JobStatus, JobUpdate, JsonObject, PlatformId, StatusUnavailable
from caliban.store.database import Store
from caliban.store.states import record_states
from tests.builders import IMAGE, SHORT_IMAGE, add_group, latest_states, leave_open, submissions
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService

FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
GROUP = ("--xgroup", "resubmit_test")


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def job_lines(context: ScreenContext) -> list[str]:
    return [line for line in context.out.splitlines() if line.startswith("    job")]


def test_a_group_is_shown_as_a_tree(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED, None)
    assert call(context, "status", *GROUP) == 0
    assert context.out.splitlines() == [
        "xgroup resubmit_test:",
        "docker config 1: job_mode: CPU, build url: /home/totoro/sw/cluster/caliban/tmp/cpu, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 0",
        f"    job 1        SUCCEEDED     TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: fake-1",
        "  experiment id 2: cpu.py --foo 3 --sleep 1",
        "    never run",
        "2 experiments: 1 succeeded, 1 never run",
        "re-run:  caliban resubmit --xgroup resubmit_test",
    ]


def test_states_are_refreshed_shown_and_recorded(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(FAILED=[1], RUNNING=[2]))
    call(context, "status", *GROUP)
    shown = [line.split()[2] for line in context.out.splitlines() if line.startswith("    job")]
    assert (shown, latest_states(store)) == (["FAILED", "RUNNING"], ["FAILED", "RUNNING"])


def test_a_failed_query_never_makes_a_job_unknown(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    call(context, "status", *GROUP)
    assert latest_states(store) == ["RUNNING"]


@pytest.mark.parametrize(("number", "jobs"), [(1, "1 job"), (2, "2 jobs")])
def test_jobs_whose_platform_cannot_be_asked_are_listed_with_the_way_to_give_them_up(
    store: Store, service: FakeService, context: ScreenContext, number: int, jobs: str
) -> None:
    add_group(store, *[RUNNING] * number, FAILED)
    service.expect("statuses", polls(unavailable=list(range(1, number + 1))))
    assert call(context, "status", *GROUP) == 0
    assert context.out.count("no route") == number
    assert context.err == (
        f"warning: experiment group resubmit_test: {jobs} may be running: the platform cannot be asked; try again, or "
        "give up what can never be asked again: caliban abandon --xgroup resubmit_test\n"
    )


def test_each_group_with_unreachable_jobs_has_its_command(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, name="it's a")
    add_group(store, RUNNING, name="b")
    service.expect("statuses", polls(unavailable=[1, 2]))
    assert call(context, "status") == 0
    assert "caliban abandon --xgroup 'it'\"'\"'s a'\n" in context.err
    assert "caliban abandon --xgroup b\n" in context.err


def test_a_job_in_an_unknown_state_is_queried_again(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, JobStatus.UNKNOWN)
    service.expect("statuses", polls(SUCCEEDED=[1]))
    call(context, "status", *GROUP)
    assert latest_states(store) == ["SUCCEEDED"]


def test_states_are_shown_even_when_they_cannot_be_recorded(
    store: Store, service: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise StoreError("store-full", "the store cannot be written", cause="disk is full")

    monkeypatch.setattr("caliban.submission.refresh.record_states", full)
    add_group(store, RUNNING)
    service.expect("statuses", polls(FAILED=[1]))
    assert call(context, "status", *GROUP) == 0
    assert "    job 1        FAILED  " in context.out
    assert context.err == (
        "warning: cannot record the states below: the store cannot be written: disk is full\n"
    )  # fmt: skip


def test_a_job_of_an_interrupted_command_is_recorded_and_shown(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED).experiments
    opened = leave_open(store, experiment, pid=ended_process)
    service.take({"image": IMAGE}, opened)
    service.expect("find", service.look_up)
    service.expect("statuses", polls(RUNNING=[2]))
    call(context, "status", *GROUP)
    assert "    job 2        RUNNING  " in context.out
    assert [row.state for row in submissions(store)] == [SubmissionState.DONE]


def test_without_a_group_open_submissions_of_every_group_are_settled(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED).experiments
    leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.look_up)
    call(context, "status")
    assert [row.state for row in submissions(store)] == [SubmissionState.ABANDONED]


def test_a_submission_in_progress_is_not_looked_up(store: Store, service: FakeService, context: ScreenContext) -> None:
    [experiment] = add_group(store, FAILED).experiments
    leave_open(store, experiment, host="catbus", pid=4711, renewed=context.clock.utc_now())
    assert call(context, "status", *GROUP) == 0
    assert [row.state for row in submissions(store)] == [SubmissionState.OPEN]


def rerun(store: Store, times: int) -> None:
    """Give every experiment of the group more failed jobs."""
    for _ in range(times):
        add_group(store, FAILED)


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ((), [4]),
        (("--max_jobs", "1"), [4]),
        (("--max_jobs", "2"), [3, 4]),
        (("--max_jobs", "9"), [1, 2, 3, 4]),
        (("--max_jobs", "0"), [1, 2, 3, 4]),
    ],
)
def test_with_a_group_the_number_of_attempts_per_experiment_is_limited(
    flags: tuple[str, ...], ids: list[int], store: Store, context: ScreenContext
) -> None:
    rerun(store, 4)
    call(context, "status", *GROUP, *flags)
    assert [int(line.split()[1]) for line in context.out.splitlines() if line.startswith("    job")] == ids


@pytest.mark.parametrize(
    ("flags", "heading", "ids"),
    [
        ((), "most recent 8 jobs for user totoro:", [3, 4, 5, 6, 7, 8, 9, 10]),
        (("--max_jobs", "1"), "most recent 1 job for user totoro:", [10]),
        (("--max_jobs", "0"), "all jobs of user totoro:", list(range(1, 11))),
    ],
)
def test_without_a_group_the_number_of_recent_jobs_is_limited(
    flags: tuple[str, ...], heading: str, ids: list[int], store: Store, context: ScreenContext
) -> None:
    rerun(store, 10)
    call(context, "status", *flags)
    lines = context.out.splitlines()
    assert (lines[0], [int(line.split()[1]) for line in lines if line.startswith("    job")]) == (heading, ids)


def test_recent_jobs_are_shown_by_group(store: Store, context: ScreenContext) -> None:
    for name in ("one", "two", "one"):
        add_group(store, FAILED, name=name)
    call(context, "status")
    assert [line for line in context.out.splitlines() if line.startswith("xgroup")] == ["xgroup one:", "xgroup two:"]


def test_jobs_of_other_users_are_not_shown(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, user="mei")
    call(context, "status")
    assert context.out == "most recent 8 jobs for user totoro:\n"


def test_without_a_store_there_are_no_jobs(context: ScreenContext) -> None:
    assert (call(context, "status"), context.out) == (0, "most recent 8 jobs for user totoro:\n")
    assert context.err == "totoro has no jobs yet; to run experiments, see: caliban run --help\n"


def test_many_jobs_are_queried_in_one_call(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, *[RUNNING] * 100)
    service.expect("statuses", polls(SUCCEEDED=range(1, 101)))
    call(context, "status", *GROUP)
    assert set(latest_states(store)) == {"SUCCEEDED"}


def add_caip_group(store: Store, state: JobStatus, *, jobs: int = 1) -> None:
    group = add_group(store, *[state] * jobs, platform="CAIP")
    with store.writing() as session:
        for experiment in group.experiments:
            assert experiment.latest is not None
            details = {"jobId": f"caliban_totoro_{experiment.id}", "project_id": "totoro-project"}
            record_states(session, {experiment.latest.id: JobUpdate(state, JobDetails(details))})


CAIP_JOB: JsonObject = {"jobId": "caliban_totoro_1", "project_id": "totoro-project"}
QUOTA = "the request was refused: Quota exceeded.\n  limit: 8 GPUs"


def test_the_reason_of_a_failed_caip_job_is_shown(store: Store, context: ScreenContext) -> None:
    message = "The replica master 0 exited with a non-zero status of 1."
    add_group(store, FAILED, platform="CAIP", details={**CAIP_JOB, "errorMessage": message})
    call(context, "status", *GROUP)
    assert job_lines(context)[-1].endswith(f"name: caliban_totoro_1 (exit code 1: {message})")


@pytest.mark.parametrize(
    ("platform", "details"),
    [
        ("LOCAL", {"name": "caliban-totoro-1", "ret_code": 125}),
        ("CAIP", CAIP_JOB),
        ("VERTEX", {"project_id": "totoro-project", "region": "us-central1", "displayName": "caliban-totoro-1"}),
        ("GKE", {"job": {"metadata": {"name": "caliban-totoro-1", "namespace": "default"}}}),
        ("KUBERNETES", {"job": {"metadata": {"name": "caliban-totoro-1", "namespace": "default"}}}),
    ],
)
def test_the_reason_of_a_refused_job_is_shown_on_every_platform(
    platform: PlatformId, details: JsonObject, store: Store, context: ScreenContext
) -> None:
    add_group(store, FAILED, platform=platform, details={**details, "error": QUOTA})
    call(context, "status", *GROUP)
    assert job_lines(context)[-1].endswith("(the request was refused: Quota exceeded. limit: 8 GPUs)")


def test_the_reason_of_a_job_that_this_version_refused_is_shown(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.refuse)
    call(context, "resubmit", *GROUP, "--yes")
    call(context, "status", *GROUP)
    assert job_lines(context)[-1].endswith("(0 left)")


@pytest.mark.parametrize("jobs", [1, 5])
@pytest.mark.usefixtures("no_google_login")
def test_without_a_google_login_jobs_are_shown_in_their_last_known_state(
    jobs: int, store: Store, context: ScreenContext
) -> None:
    add_caip_group(store, RUNNING, jobs=jobs)
    assert call(context, "status", *GROUP) == 0
    lines = [line for line in context.out.splitlines() if line.startswith("    job")]
    marked = [line for line in lines if "RUNNING" in line and "(last known state; " in line]
    assert (len(marked), latest_states(store)) == (jobs, ["RUNNING"] * jobs)


@pytest.mark.usefixtures("no_google_login")
def test_finished_jobs_are_shown_without_a_google_login(store: Store, context: ScreenContext) -> None:
    add_caip_group(store, FAILED)
    call(context, "status", *GROUP)
    assert "last known state" not in context.out


def test_while_a_job_may_run_that_cannot_be_looked_up_the_exit_code_is_1(
    store: Store, ended_process: int, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, FAILED).experiments
    leave_open(store, experiment, pid=ended_process)
    service.expect("find", service.fail_to_connect)
    assert call(context, "status", *GROUP) == 1
    assert "    job 1        FAILED  " in context.out
    assert "is still unknown: cannot reach the fake platform: no route" in context.err
    assert "caliban abandon --xgroup resubmit_test" in context.err


def test_the_state_that_another_command_recorded_first_is_shown(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    """A job that is stopped in another terminal while its state is queried."""

    def stop_meanwhile(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        with store.writing() as session:
            record_states(session, {1: JobUpdate(JobStatus.STOPPED)})
        return {1: JobUpdate(SUCCEEDED)}

    add_group(store, RUNNING)
    service.expect("statuses", stop_meanwhile)
    call(context, "status", *GROUP)
    assert "    job 1        STOPPED  " in context.out
