from __future__ import annotations

import pytest

from caliban.errors import CalibanError, UsageError
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Store
from tests.builders import add_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService

FAILED, SUCCEEDED, RUNNING, STOPPED = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.STOPPED
GROUP = ("--xgroup", "resubmit_test")


def shown(context: ScreenContext) -> list[int]:
    words = (line.split() for line in context.out.splitlines())
    return [int(line[line.index("job") + 1]) for line in words if line[:1] in (["job"], ["attempt"])]


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        (("--state", "failed,stopped"), [2, 3, 4]),
        (("--job", "1,4"), [1, 4]),
        (("--match", "sleep=1"), [2]),
        (("--match", "foo=3.0", "--state", "succeeded"), [1]),
        (("--cause", "stopped"), [4]),
        (("--since", "1h"), [1, 2, 3, 4]),
    ],
)
def test_flags_select_jobs_of_a_group(
    flags: tuple[str, ...], ids: list[int], store: Store, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, FAILED)
    add_group(store, None, None, None, name="other")
    add_group(store, None, None, FAILED, STOPPED)
    assert call(context, "status", *GROUP, *flags) == 0
    assert shown(context) == ids


def test_a_state_is_that_after_the_refresh(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(FAILED=[1], RUNNING=[2]))
    call(context, "status", *GROUP, "--state", "failed")
    assert shown(context) == [1]


def test_only_jobs_that_may_be_selected_are_refreshed(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[2]))
    call(context, "status", *GROUP, "--match", "sleep=1")
    assert shown(context) == [2]


def test_an_earlier_attempt_can_be_named(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED)
    add_group(store, SUCCEEDED)
    call(context, "status", *GROUP, "--job", "1")
    assert shown(context) == [1]


def test_a_job_of_another_group_is_an_error(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED)
    add_group(store, FAILED, name="other")
    with pytest.raises(CalibanError, match="the experiment group resubmit_test has no job 2") as error:
        call(context, "status", *GROUP, "--job", "2")
    assert error.value.id == "unknown-job"


@pytest.mark.parametrize(
    "more", [("--match", "sleep=9"), ("--state", "succeeded"), ("--history", "--match", "sleep=9")]
)
def test_a_job_that_only_other_flags_leave_out_is_not_unknown(
    more: tuple[str, ...], store: Store, context: ScreenContext
) -> None:
    add_group(store, JobStatus.FAILED)
    assert call(context, "status", "--xgroup", "resubmit_test", "--job", "1", *more) == 0
    assert context.out.endswith("no jobs match\n")


def test_without_a_group_the_latest_jobs_of_all_groups_are_selected(store: Store, context: ScreenContext) -> None:
    for name in ("one", "two"):
        add_group(store, *[FAILED] * 6, name=name)
    add_group(store, SUCCEEDED, name="one")
    call(context, "status", "--state", "failed")
    assert context.out.splitlines()[0] == "jobs of user totoro that match:"
    assert shown(context) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_without_a_group_the_number_of_selected_jobs_can_be_limited(store: Store, context: ScreenContext) -> None:
    for name in ("one", "two"):
        add_group(store, *[FAILED] * 6, name=name)
    call(context, "status", "--state", "failed", "--max_jobs", "2")
    assert context.out.splitlines()[0] == "most recent 2 jobs of user totoro that match:"
    assert shown(context) == [11, 12]


@pytest.mark.parametrize(
    ("flags", "heading"), [(GROUP, "xgroup resubmit_test:"), ((), "jobs of user totoro that match:")]
)
def test_where_nothing_matches_that_is_said(
    flags: tuple[str, ...], heading: str, store: Store, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED)
    assert call(context, "status", *flags, "--state", "failed") == 0
    assert context.out.splitlines() == [heading, "no jobs match"]


def test_a_mistake_is_reported_before_anything_is_read(context: ScreenContext) -> None:
    with pytest.raises(UsageError, match='--state: unknown state "faild"'):
        call(context, "status", "--xgroup", "missing", "--state", "faild")


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        ((*GROUP, "--history"), [1, 3, 2]),
        ((*GROUP, "--history", "--max_jobs", "1"), [3, 2]),
        ((*GROUP, "--history", "--job", "1"), [1, 3]),
        ((*GROUP, "--history", "--state", "succeeded"), [1, 3]),
        (("--history",), [1, 3, 2]),
        (("--history", "--max_jobs", "1"), [3]),
    ],
)
def test_the_history_has_all_attempts_of_the_selected_experiments(
    flags: tuple[str, ...], ids: list[int], store: Store, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED)
    add_group(store, SUCCEEDED)
    call(context, "status", *flags)
    assert shown(context) == ids


def test_failures_are_summarized_by_cause(store: Store, service: FakeService, context: ScreenContext) -> None:
    details: JsonObject = {"name": "fake", "ret_code": 1}
    add_group(store, FAILED, FAILED, details=details)
    call(context, "status", *GROUP)
    assert context.out.splitlines()[-4:] == [
        "2 experiments: 2 failed",
        "  2 code_error      exit code 1",
        "output:  caliban logs --xgroup resubmit_test --failed",
        "re-run:  caliban resubmit --xgroup resubmit_test",
    ]
