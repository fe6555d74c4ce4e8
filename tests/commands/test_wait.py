"""``caliban wait`` on a fake platform: what ends it, with which exit code, and what is asked meanwhile."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from caliban.errors import CalibanError, StoreError
from caliban.records import JobRecord, JobStatus, JobUpdate, StatusUnavailable
from caliban.store.database import Store, open_store
from tests.builders import GROUP, add_group, latest_states, leave_open
from tests.calls import call, result_of
from tests.conftest import MakeContext, MakeScreen, ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock

WAIT = ("wait", "--xgroup", GROUP)
RUNNING, SUCCEEDED, FAILED, STOPPED = JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED
Answers = Mapping[int, JobUpdate | StatusUnavailable]
Answer = Callable[[Sequence[JobRecord]], Answers]


def refused(jobs: Sequence[JobRecord]) -> Answers:
    return {job.id: StatusUnavailable("permission denied", is_permanent=True) for job in jobs}


def test_it_ends_with_0_when_all_have_succeeded(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, RUNNING, SUCCEEDED)
    service.expect("statuses", polls(RUNNING=[1, 2]), polls(RUNNING=[1], SUCCEEDED=[2]), polls(SUCCEEDED=[1]))
    assert call(context, *WAIT) == 0
    assert latest_states(store) == ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    assert context.err == f"waiting for 2 of 3 experiments of the experiment group {GROUP} ...\n"
    assert context.out.splitlines() == [
        "2020-05-29 10:53:35 job 2: RUNNING -> SUCCEEDED  cpu.py --foo 3 --sleep 1",
        "2020-05-29 10:53:40 job 1: RUNNING -> SUCCEEDED  cpu.py --foo 3 --sleep 0",
        "3 experiments: 3 succeeded",
    ]


@pytest.mark.parametrize("state", ["FAILED", "STOPPED", "UNKNOWN"])
def test_it_ends_with_1_when_one_has_not_succeeded(
    state: str, store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, SUCCEEDED)
    service.expect("statuses", polls(**{state: [1]}))
    assert call(context, *WAIT) == 1


def test_what_was_never_run_is_not_waited_for_and_no_success(store: Store, context: ScreenContext) -> None:
    add_group(store, None, SUCCEEDED)
    assert call(context, *WAIT) == 1


def test_it_ends_with_3_when_the_timeout_comes_first(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    add_group(store, RUNNING, FAILED)
    service.expect("statuses", *[polls(RUNNING=[1])] * 4)
    assert call(context, *WAIT, "--timeout", "20") == 3
    assert clock.seconds == 20
    assert context.err.splitlines()[1:] == [
        "timeout after 20s: 1 job not ended, and still running or queued",
        f"to go on waiting, run: caliban wait --xgroup {GROUP} --timeout 20",
    ]
    assert latest_states(store) == ["RUNNING", "FAILED"]


def test_there_is_a_last_look_when_the_time_is_over(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]), polls(SUCCEEDED=[1]))
    assert call(context, *WAIT, "--timeout", "3") == 0


def interrupted(context: ScreenContext, *words: str) -> None:
    """Press Ctrl-C during the first pause."""

    def wait(event: threading.Event, seconds: float) -> bool:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context.clock, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            call(context, *words)


@pytest.mark.parametrize(
    ("flags", "again"),
    [
        ((), f"--xgroup {GROUP}"),
        (("--match", "sleep=0"), f"--xgroup {GROUP} --match sleep=0"),
        (("--state", "running"), f"--xgroup {GROUP} --job 1,2"),
        (("--timeout", "2h"), f"--xgroup {GROUP} --timeout 7200"),
    ],
)
def test_ctrl_c_says_that_jobs_run_on_and_how_to_go_on_waiting(
    flags: Sequence[str], again: str, store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING, SUCCEEDED)
    service.expect("statuses", lambda jobs: {job.id: JobUpdate(RUNNING) for job in jobs})
    interrupted(context, *WAIT, *flags)
    number = "1 job" if "--match" in flags else "2 jobs"
    assert context.err.splitlines()[1:] == [
        f"not waiting any longer: {number} not ended, and still running or queued",
        f"to go on waiting, run: caliban wait {again}",
    ]
    assert service.arguments_of("stop") == []


def test_without_flags_it_waits_for_what_has_not_ended(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, FAILED, name="one")
    add_group(store, FAILED, name="two")
    add_group(store, RUNNING, name="three")
    service.expect("statuses", polls(RUNNING=[1, 4]), polls(SUCCEEDED=[1], RUNNING=[4]), polls(SUCCEEDED=[4]))
    assert call(context, "wait") == 0
    assert "2 experiments: 2 succeeded, in 2 experiment groups" in context.out


@pytest.mark.parametrize(("flags", "line"), [((), "no running or queued jobs"), (WAIT[1:], "no jobs match")])
def test_with_nothing_to_wait_for_it_ends_with_0(
    flags: Sequence[str], line: str, store: Store, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED)
    words = [*flags, "--state", "running"] if flags else []
    assert call(context, "wait", *words) == 0
    assert context.out == f"{line}\n"


@pytest.mark.parametrize(
    ("flags", "waited_for", "code"),
    [
        (("--match", "sleep=1"), [2], 0),
        (("--state", "running"), [1, 2], 0),
        (("--job", "1"), [1], 0),
        (("--job", "1,3"), [1], 1),
        (("--state", "failed"), [], 1),
    ],
)
def test_the_first_look_chooses_the_experiments(
    flags: Sequence[str],
    waited_for: Sequence[int],
    code: int,
    store: Store,
    service: FakeService,
    context: ScreenContext,
) -> None:
    def later(jobs: Sequence[JobRecord]) -> Answers:
        assert [job.id for job in jobs] == list(waited_for)
        return {job.id: JobUpdate(SUCCEEDED) for job in jobs}

    def now(jobs: Sequence[JobRecord]) -> Answers:
        return {job.id: JobUpdate(RUNNING) for job in jobs}

    add_group(store, RUNNING, RUNNING, FAILED)
    service.expect("statuses", now, *([later] if waited_for else []))
    assert call(context, *WAIT, *flags) == code


def test_a_job_that_replaces_another_one_meanwhile_is_the_one_that_counts(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    def rerun(jobs: Sequence[JobRecord]) -> Answers:
        add_group(store, RUNNING)
        return {1: JobUpdate(FAILED), 2: JobUpdate(RUNNING)}

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", rerun, polls(RUNNING=[2, 3]), polls(SUCCEEDED=[2, 3]))
    assert call(context, *WAIT) == 0
    assert "job 3: RUNNING  cpu.py --foo 3 --sleep 0" in context.out


def test_an_experiment_that_another_command_is_submitting_is_waited_for(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    group = add_group(store, FAILED)
    leave_open(store, group.experiments[0], pid=os.getppid())
    assert call(context, *WAIT, "--timeout", "1m") == 3
    assert clock.seconds == 60


def test_looks_become_rarer_while_nothing_changes(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    moments: list[float] = []

    def answer(jobs: Sequence[JobRecord]) -> Answers:
        moments.append(clock.seconds)
        return {1: JobUpdate(RUNNING), 2: JobUpdate(SUCCEEDED if len(moments) == 9 else RUNNING)}

    def last(jobs: Sequence[JobRecord]) -> Answers:
        moments.append(clock.seconds)
        return {1: JobUpdate(SUCCEEDED)}

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", *[answer] * 9, last)
    assert call(context, *WAIT) == 0
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert pauses[:3] == [5, 7.5, 11.25]
    assert pauses[-2:] == [60, 5]


def test_an_hour_without_network_is_two_lines(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    def lost(jobs: Sequence[JobRecord]) -> Answers:
        return {job.id: StatusUnavailable(f"no route, at {clock.seconds}") for job in jobs}

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2]), *[lost] * 60, polls(SUCCEEDED=[1, 2]))
    assert call(context, *WAIT) == 0
    assert clock.seconds > 3300
    assert context.err.splitlines()[1:] == [
        "warning: cannot determine the state of 2 jobs on TEST: no route, at 5.0; waiting until they can be determined",
        "TEST reports its jobs again, after 56m 35s",
    ]


def test_a_store_that_cannot_be_reached_is_waited_for(
    store: Store, service: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def failing(*arguments: Any) -> Store:
        opened.append(arguments)
        if len(opened) in (2, 3, 4):
            raise StoreError("store-unreachable", "cannot reach the store", cause="no route")
        return open_store(*arguments)

    monkeypatch.setattr("caliban.waiting.looks.open_store", failing)
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]), polls(SUCCEEDED=[1]))
    assert call(context, *WAIT) == 0
    assert context.err.splitlines()[1:] == [
        "warning: cannot reach the store: no route; waiting until the store can be used again",
        "the store can be used again, after 35s",
    ]


def test_a_platform_that_refuses_to_answer_ends_it_with_1_and_the_reason(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", refused, refused)
    assert call(context, *WAIT) == 1
    assert clock.seconds == 5
    assert "job 1: state unknown: permission denied" in context.err


def test_a_platform_that_refused_once_is_asked_again(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", refused, polls(RUNNING=[1]), refused, polls(SUCCEEDED=[1]))
    assert call(context, *WAIT) == 0


def test_other_jobs_are_waited_for_while_a_platform_refuses(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    def one_refused(state: JobStatus) -> Answer:
        return lambda jobs: {1: StatusUnavailable("denied", is_permanent=True), 2: JobUpdate(state)}

    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", one_refused(RUNNING), one_refused(RUNNING), one_refused(SUCCEEDED), refused)
    assert call(context, *WAIT) == 1
    assert latest_states(store) == ["RUNNING", "SUCCEEDED"]


def test_a_group_that_is_deleted_meanwhile_ends_it(store: Store, service: FakeService, context: ScreenContext) -> None:
    def delete(jobs: Sequence[JobRecord]) -> Answers:
        with store.writing() as session:
            for table in ("jobs", "job_specs", "experiments", "experiment_groups"):
                session.connection().exec_driver_sql(f"DELETE FROM {table}")
        return {1: JobUpdate(RUNNING)}

    add_group(store, RUNNING)
    service.expect("statuses", delete)
    with pytest.raises(CalibanError, match="has no experiment group") as raised:
        call(context, *WAIT)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("jump", [3 * 3600, -3 * 3600])
def test_a_clock_that_jumps_breaks_nothing(
    jump: int, store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    """A laptop that slept for three hours, and a clock that was set back."""

    def sleep(jobs: Sequence[JobRecord]) -> Answers:
        clock._start = clock._start + timedelta(seconds=jump)
        return {1: JobUpdate(RUNNING)}

    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]), sleep, polls(RUNNING=[1]), *[polls(RUNNING=[1])] * 100)
    assert call(context, *WAIT, "--timeout", "1h") == 3
    looks = len(service.arguments_of("statuses"))
    assert (looks == 3) if jump > 0 else (looks > 60)
    assert clock.seconds <= 3600
    service._expected.clear()


@pytest.mark.slow
def test_1000_jobs_are_one_request_for_each_look(
    store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    add_group(store, *[RUNNING] * 1000)
    asked: list[int] = []

    def answer(jobs: Sequence[JobRecord]) -> Answers:
        asked.append(len(jobs))
        done = {job.id for job in jobs[: len(jobs) // 2 + 1]} if len(asked) > 1 else set()
        return {job.id: JobUpdate(SUCCEEDED if job.id in done else RUNNING) for job in jobs}

    service.expect("statuses", *[answer] * 11)
    assert call(context, *WAIT) == 0
    assert asked == [1000, 1000, 499, 249, 124, 61, 30, 14, 6, 2]
    service._expected.clear()


def test_with_json_there_is_one_document_and_changes_go_to_standard_error(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[1, 2]), polls(SUCCEEDED=[1], FAILED=[2]))
    document = result_of(context, *WAIT, "--json")
    assert (document["schema"], document["timed_out"], document["unfinished"]) == ("caliban.wait/1", False, 0)
    assert [each["state"] for each in document["groups"][0]["experiments"]] == ["SUCCEEDED", "FAILED"]
    assert "job 2: RUNNING -> FAILED" in context.err


def test_on_a_terminal_the_listing_is_redrawn(
    store: Store, service: FakeService, make_context: MakeContext, make_screen: MakeScreen
) -> None:
    make_screen.environ.update(TERM="xterm", COLUMNS="200", LINES="24")
    context = make_context(is_terminal=True)
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]), polls(RUNNING=[1]), polls(SUCCEEDED=[1]))
    assert call(context, *WAIT) == 0
    frames = context.out.split("\x1b[H")[1:]
    assert frames[1].startswith(
        "2020-05-29 10:53:35  waiting for 1 of 1 experiment, 5s  (Ctrl-C ends the waiting, not the jobs)\x1b[K\r\n"
    )
    assert context.out.split("\x1b[?1049l")[1].splitlines() == ["1 experiment: 1 succeeded"]
