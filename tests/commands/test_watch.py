from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest

from caliban.cli.console import Console
from caliban.cli.frames import Tree, frame_lines
from caliban.errors import QuietInterrupt, StoreError, UsageError
from caliban.records import JobRecord, JobStatus, JobUpdate, StatusUnavailable
from caliban.store.database import Store
from tests.builders import SHORT_IMAGE, add_group, latest_states
from tests.calls import call
from tests.conftest import MakeContext, MakeScreen, ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock

WATCH = ("status", "--xgroup", "resubmit_test", "--watch")
RUNNING, SUCCEEDED, FAILED = JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED
Answer = Callable[[Sequence[JobRecord]], Mapping[int, JobUpdate | StatusUnavailable]]


def watched(
    context: ScreenContext, service: FakeService, *answers: Answer, flags: Sequence[str] = (), more_looks: int = 0
) -> None:
    """Watch until the answers are used up, and then press Ctrl-C."""
    service.expect("statuses", *answers)
    clock, waits = context.clock, []

    def wait(event: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) > looks - 1:
            raise KeyboardInterrupt
        return FakeClock.wait(clock, event, seconds)  # type: ignore[arg-type]

    looks = more_looks + len(answers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "wait", wait)
        with pytest.raises(QuietInterrupt):
            call(context, *WATCH, *flags)


def test_elsewhere_than_on_a_terminal_each_change_is_a_line(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING, SUCCEEDED)
    watched(context, service, polls(RUNNING=[1, 2]), polls(RUNNING=[1, 2]), polls(RUNNING=[1], FAILED=[2]))
    lines = context.out.splitlines()
    assert lines[:3] == [
        "xgroup resubmit_test:",
        "docker config 1: job_mode: CPU, build url: /home/totoro/sw/cluster/caliban/tmp/cpu, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 0",
    ]
    assert lines[8:] == [
        "3 experiments: 1 succeeded, 2 running",
        "2020-05-29 10:53:40 job 2: RUNNING -> FAILED  cpu.py --foo 3 --sleep 1",
    ]
    assert latest_states(store) == ["RUNNING", "FAILED", "SUCCEEDED"]


def test_a_job_that_another_command_submits_is_a_change(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    def rerun(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        add_group(store, RUNNING)
        return {1: JobUpdate(FAILED)}

    add_group(store, RUNNING)
    watched(context, service, rerun, polls(RUNNING=[2]))
    assert context.out.splitlines()[-1] == "2020-05-29 10:53:35 job 2: RUNNING  cpu.py --foo 3 --sleep 0"


@pytest.mark.parametrize(("flags", "seconds"), [((), 5), (("--interval", "30"), 30), (("--interval", "2m"), 120)])
def test_the_time_between_two_looks_can_be_set(
    flags: Sequence[str], seconds: float, store: Store, service: FakeService, context: ScreenContext, clock: FakeClock
) -> None:
    add_group(store, RUNNING)
    watched(context, service, polls(RUNNING=[1]), polls(RUNNING=[1]), flags=flags)
    assert clock.seconds == seconds


@pytest.mark.parametrize("value", ["0", "0.5", "-1", "x", "", "2d", "9" * 30])
def test_a_malformed_interval_is_wrong_usage(value: str, context: ScreenContext) -> None:
    with pytest.raises(UsageError, match=f'--interval: expected seconds, 1 or more, or a time .*, got "{value}"'):
        call(context, *WATCH, f"--interval={value}")


def test_an_interval_without_watch_is_wrong_usage(context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="--interval needs --watch"):
        call(context, "status", "--interval", "5")


def test_while_the_network_is_lost_the_last_states_stay_and_one_warning_is_written(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    lost = polls(unavailable=[1])
    watched(context, service, polls(RUNNING=[1]), lost, lost, lost, polls(SUCCEEDED=[1]))
    assert context.err.count("warning: ") == 1
    assert context.out.splitlines()[-1] == "2020-05-29 10:53:50 job 1: RUNNING -> SUCCEEDED  cpu.py --foo 3 --sleep 0"


def test_while_the_store_cannot_be_read_it_is_tried_again(
    store: Store, service: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caliban.commands import listing, watch

    real, looks = listing.look, []

    def look(*arguments: object) -> object:
        looks.append(arguments)
        if len(looks) in (2, 3):
            raise StoreError("store-unreachable", "cannot reach the store", cause="no route")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "look", look)
    add_group(store, RUNNING)
    watched(context, service, polls(RUNNING=[1]), polls(SUCCEEDED=[1]), more_looks=2)
    assert context.err == "warning: cannot look: cannot reach the store: no route; trying again every 5s\n"
    assert "RUNNING -> SUCCEEDED" in context.out


def test_when_the_reader_of_its_output_leaves_the_command_ends(
    store: Store, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "has_reader", property(lambda console: False))
    add_group(store, SUCCEEDED)
    assert call(context, *WATCH) == 0


def test_a_first_look_that_fails_ends_the_command(store: Store, context: ScreenContext) -> None:
    with pytest.raises(Exception, match="has no experiment group"):
        call(context, *WATCH)


def test_on_a_terminal_the_listing_is_redrawn(
    store: Store, service: FakeService, make_context: MakeContext, make_screen: MakeScreen
) -> None:
    make_screen.environ.update(TERM="xterm", COLUMNS="200", LINES="24")
    context = make_context(is_terminal=True)
    add_group(store, RUNNING)
    watched(context, service, polls(RUNNING=[1]), polls(SUCCEEDED=[1]))
    frames = context.out.split("\x1b[H")[1:]
    assert [("RUNNING" in frame, "SUCCEEDED" in frame) for frame in frames] == [(True, False), (False, True)]
    assert frames[0].startswith(
        "2020-05-29 10:53:30  caliban status --xgroup resubmit_test  (every 5s; Ctrl-C ends)\x1b[K\r\n"
    )
    assert f"container: {SHORT_IMAGE} name: fake-1\x1b[K\r\n1 experiment: 1 running\x1b[K\x1b[J" in frames[0]
    assert context.out.endswith("\x1b[?1049l")


def test_a_dumb_terminal_gets_lines(
    store: Store, service: FakeService, make_context: MakeContext, make_screen: MakeScreen
) -> None:
    make_screen.environ.update(TERM="dumb")
    context = make_context(is_terminal=True)
    add_group(store, RUNNING)
    watched(context, service, polls(RUNNING=[1]), polls(SUCCEEDED=[1]))
    assert "\x1b" not in context.out


FULL = [f"line {n}" for n in range(40)]
TREE = Tree(FULL, FULL[:8], ["counts", "cause"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (50, ["title", *FULL, "counts", "cause"]),
        (43, ["title", *FULL, "counts", "cause"]),
        (42, ["title", *FULL[:8], "counts", "cause"]),
        (11, ["title", *FULL[:8], "counts", "cause"]),
        (6, ["title", "line 0", "line 1", "... 6 more lines", "counts", "cause"]),
        (4, ["title", "... 8 more lines", "counts", "cause"]),
        (3, ["title", "counts", "cause"]),
        (2, ["title", "counts"]),
        (1, ["title"]),
    ],
)
def test_on_a_small_terminal_what_has_succeeded_makes_room_first_and_the_summary_stays(
    rows: int, expected: list[str]
) -> None:
    assert frame_lines("title", [TREE], rows) == expected


@pytest.mark.parametrize("rows", range(1, 100))
def test_no_frame_is_higher_than_the_terminal(rows: int) -> None:
    assert len(frame_lines("title", [TREE, TREE], rows)) <= rows
