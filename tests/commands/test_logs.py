"""``caliban logs``, with a fake platform that has the output of its jobs."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import NoReturn

import pytest

from caliban.errors import CalibanError, UsageError
from caliban.platforms.base import LogRequest
from caliban.records import JobStatus, OutputLine
from caliban.store.database import Store
from tests.builders import add_group
from tests.calls import call, result_of
from tests.commands.log_answers import GONE, GROUP, Answer, store_output
from tests.conftest import MakeContext, MakeScreen, ScreenContext
from tests.databases import sent_statements
from tests.fake_platform import polls
from tests.fake_service import FakeService

FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING


NOON = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)


MIB = 1 << 20


def test_without_a_selection_the_most_recent_job_is_shown_byte_for_byte(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED)
    Answer(logging, {2: [b"\xff\x1b[2J1 %\r2 %\n", b"no line break"]})
    assert call(context, "logs") == 0
    assert context.screen.stdout.written == b"\xff\x1b[2J1 %\r2 %\nno line break"
    assert context.err == "== job 2  cpu.py --foo 3 --sleep 1  FAILED\n"


def test_each_of_several_jobs_has_a_header_in_the_order_of_the_group(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, SUCCEEDED, details={"name": "fake", "ret_code": 1})
    Answer(logging, {1: [b"ValueError: loss is nan"], 2: [b"done\n"]})
    assert call(context, "logs", *GROUP) == 0
    assert context.out.splitlines() == [
        "== job 1  cpu.py --foo 3 --sleep 0  FAILED  exit code 1",
        "ValueError: loss is nan",
        "== job 2  cpu.py --foo 3 --sleep 1  SUCCEEDED",
        "done",
    ]


def test_only_failed_jobs_are_shown(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED, FAILED)
    Answer(logging, {2: [b"oops\n"]})
    call(context, "logs", "--failed")
    assert context.out == "== job 2  cpu.py --foo 3 --sleep 1  FAILED\noops\n"


def test_states_are_refreshed_before_jobs_are_chosen(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, RUNNING)
    logging.expect("statuses", polls(RUNNING=[1], FAILED=[2]))
    Answer(logging, {2: [b"oops\n"]})
    call(context, "logs", *GROUP, "--failed")
    assert context.out == "== job 2  cpu.py --foo 3 --sleep 1  FAILED\noops\n"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ((), [3]),
        (("--attempt", "1"), [1]),
        (("--attempt", "2"), [2]),
        (("--attempt", "-1"), [3]),
        (("--attempt=-3",), [1]),
        (("--attempt", "4"), []),
        (("--attempt", "-4"), []),
        (("--job", "2"), [2]),
        (("--job", "3", "--attempt", "1"), [1]),
        (("--job", "1,3"), [1, 3]),
    ],
)
def test_attempts_are_counted_from_the_first_or_from_the_last(
    flags: tuple[str, ...], shown: list[int], store: Store, logging: FakeService, context: ScreenContext
) -> None:
    for _ in range(3):
        add_group(store, FAILED)
    answer = Answer(logging, {job_id: [b"x\n"] for job_id in shown})
    call(context, "logs", *GROUP, *flags)
    assert sorted(answer.requests) == shown


@pytest.mark.parametrize("attempt", ["0", "x", "1.5", "", "-0", "+1"])
def test_an_attempt_is_an_integer_other_than_0(attempt: str, context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="attempt"):
        call(context, "logs", f"--attempt={attempt}")


def test_a_selection_that_matches_nothing_is_told(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED)
    assert (call(context, "logs", "--failed"), context.out, context.err) == (0, "", "no jobs match\n")


@pytest.mark.parametrize("flags", [(), ("--path",), ("--follow",), ("--tail", "3")])
def test_without_jobs_there_is_nothing_to_show(flags: tuple[str, ...], context: ScreenContext) -> None:
    assert (call(context, "logs", *flags), context.out) == (0, "")
    assert context.err.startswith("totoro has no jobs yet")


def test_lines_are_matched_before_the_last_ones_are_counted(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    answer = Answer(logging, {1: [b"loss 1\n", b"loss 2\n", b"other\n", b"loss 3\n", b"x\n"]})
    call(context, "logs", "--job", "1", "--grep", "^loss", "--tail", "2")
    assert (context.out, answer.requests[1].tail) == ("loss 2\nloss 3\n", None)


def test_of_a_progress_bar_the_last_update_is_shown_that_is_wanted(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    bar = b"\r".join(b"%d %%" % number for number in range(50)) + b"\r\n"
    add_group(store, FAILED)
    Answer(logging, {1: [bar]})
    Answer(logging, {1: [bar]})
    call(context, "logs", "--job", "1", "--tail", "1")
    call(context, "logs", "--job", "1", "--grep", "^1. %$")
    assert context.out == "49 %\n19 %\n"


def test_without_a_pattern_the_platform_is_asked_for_the_last_lines_only(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    answer = Answer(logging, {1: [b"b\n"]})
    call(context, "logs", "--tail", "1")
    assert (context.out, answer.requests[1]) == ("b\n", LogRequest(tail=1))


def test_a_pattern_that_needs_exponential_time_is_an_error(
    store: Store, logging: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.outputs.line_choice._SECONDS", 0.05)
    add_group(store, FAILED)
    Answer(logging, {1: [b"a" * 60 + b"\n"]})
    with pytest.raises(UsageError, match="takes too long") as caught:
        call(context, "logs", "--grep", "(a*)*b")
    assert caught.value.id == "pattern-too-slow"


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<n", "a{2,1}", "\\", "(" * 3000 + ")" * 3000])
def test_a_malformed_pattern_is_wrong_usage(pattern: str, context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="is not a regular expression"):
        call(context, "logs", "--grep", pattern)


@pytest.mark.parametrize(
    "flags",
    [
        ("--json", "--follow"),
        ("--path", "--follow"),
        ("--path", "--json"),
        ("--path", "--tail", "0"),
        ("--path", "--grep", ""),
        ("--path", "--timestamps"),
        ("--follow", "--grep", "x", "--tail", "3"),
    ],
)
def test_flags_that_contradict_each_other_are_wrong_usage(flags: tuple[str, ...], context: ScreenContext) -> None:
    with pytest.raises(UsageError, match="cannot be combined"):
        call(context, "logs", *flags)


def test_times_are_shown_with_their_zone(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    Answer(logging, {1: [OutputLine(b"10 %\r20 %\n", time=NOON), OutputLine(b"untimed\n")]})
    call(context, "logs", "--job", "1", "--timestamps")
    assert (context.out, context.err) == ("2026-11-25T12:00:00.000Z 20 %\nuntimed\n", "")


def test_a_platform_that_does_not_tell_times_is_told(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    Answer(logging, {1: [b"x\n"]})
    call(context, "logs", "--job", "1", "--timestamps")
    assert (context.out, context.err) == ("x\n", "job 1: the times of its lines are not known\n")


def test_which_part_of_a_job_wrote_a_line_is_shown(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    Answer(logging, {1: [OutputLine(b"x\n", source="worker-0"), OutputLine(b"y", source="worker-1")]})
    call(context, "logs")
    assert context.out == "worker-0 | x\nworker-1 | y\n"


def test_a_running_job_is_followed(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    logging.expect("statuses", polls(RUNNING=[1]))
    answer = Answer(logging, {1: [b"one\n", b"1 %\r", b"2 %\r"]})
    assert call(context, "logs", "-f", "--tail", "0") == 0
    assert (context.out, answer.requests[1]) == ("one\n2 %\r", LogRequest(tail=0, follow=True))


def test_lines_of_several_followed_jobs_have_the_job_in_front(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, *[SUCCEEDED] * 9, RUNNING)
    logging.expect("statuses", polls(RUNNING=[10]))
    outputs: dict[int, Sequence[object] | CalibanError] = {number: [b"x\n"] for number in range(1, 10)}
    answer = Answer(logging, {**outputs, 10: [b"10 %\r20", b" %\n", b"end"]})
    assert call(context, "logs", *GROUP, "--follow") == 0
    lines = context.out.splitlines()
    assert sorted(lines) == sorted([*(f"job {n}  | x" for n in range(1, 10)), "job 10 | 20 %", "job 10 | end"])
    assert [answer.requests[number].follow for number in (9, 10)] == [False, True]


def test_ctrl_c_ends_following_and_leaves_the_job_alone(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    def lines() -> Iterator[bytes]:
        yield b"one\n"
        logging.interrupt()

    add_group(store, RUNNING)
    logging.expect("statuses", polls(RUNNING=[1]))
    logging.expect("logs", lambda job, request: lines())
    with pytest.raises(KeyboardInterrupt):
        call(context, "logs", "--follow")
    assert context.err.endswith("1 job is still running\n")


def test_too_many_jobs_to_follow_are_an_error(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, *[RUNNING] * 101)
    logging.expect("statuses", polls(RUNNING=range(1, 102)))
    with pytest.raises(CalibanError, match="cannot follow 101 jobs"):
        call(context, "logs", *GROUP, "--follow")


def test_on_a_terminal_only_colours_reach_it(store: Store, logging: FakeService, terminal: ScreenContext) -> None:
    add_group(store, FAILED)
    Answer(logging, {1: ["\x1b[31mred\x1b[0m \x1b]52;c;eA==\x07\x1b[2J\u202eé\t5 %\r6 %\n".encode()]})
    call(terminal, "logs")
    assert terminal.out == "\x1b[31mred\x1b[0m \\x1b]52;c;eA==\\x07\\x1b[2J\\u202eé\t5 %\r6 %\n"


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_jobs_have_colours_on_a_terminal_that_has_them(
    environ: dict[str, str],
    is_coloured: bool,
    store: Store,
    logging: FakeService,
    make_screen: MakeScreen,
    make_context: MakeContext,
) -> None:
    make_screen.environ.update(environ)
    terminal = make_context(is_terminal=True)
    add_group(store, SUCCEEDED, SUCCEEDED)
    Answer(logging, {1: [b"x\n"], 2: [b"y\n"]})
    call(terminal, "logs", *GROUP, "--follow")
    assert ("\x1b[" in terminal.out) == is_coloured


def test_the_document_has_every_line_and_every_job(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, FAILED)
    Answer(logging, {1: [OutputLine(b"\xffx\n", is_stderr=True, time=NOON), b"y"], 2: GONE})
    assert call(context, "logs", *GROUP, "--json") == 1
    document = json.loads(context.out)
    assert (document["schema"], document["exit_code"], document["error"]) == ("caliban.logs/1", 1, None)
    time = "2026-11-25T12:00:00.000000Z"
    assert document["lines"] == [
        {"job": 1, "stream": "stderr", "time": time, "source": None, "text": "\\xffx"},
        {"job": 1, "stream": "stdout", "time": None, "source": None, "text": "y"},
    ]
    assert [(job["id"], job["output"]["source"], job["output"]["lines"]) for job in document["jobs"]] == [
        (1, "platform", 2),
        (2, None, 0),
    ]
    assert document["jobs"][1]["output"]["error"]["id"] == "output-gone"


@pytest.mark.parametrize("in_memory", [16 << 20, 1000])
def test_a_document_may_have_more_lines_than_memory(
    in_memory: int, store: Store, logging: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.commands.log_output._IN_MEMORY", in_memory)
    written = [f"line {number} \u2713\n".encode() for number in range(5000)]
    add_group(store, FAILED, FAILED)
    Answer(logging, {1: written, 2: [b"last\n"]})
    assert call(context, "logs", *GROUP, "--json") == 0
    document = json.loads(context.out)
    assert [line["text"] for line in document["lines"]] == [f"line {number} \u2713" for number in range(5000)] + [
        "last"
    ]
    assert [job["output"]["lines"] for job in document["jobs"]] == [5000, 1]


def test_lines_are_not_in_memory_all_at_once(
    store: Store, logging: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.commands.log_output._IN_MEMORY", 1000)
    written: list[int] = []
    monkeypatch.setattr("caliban.cli.console.wait_for_room", lambda stream: written.append(len(context.out)))
    add_group(store, FAILED)
    Answer(logging, {1: [b"x" * 100 + b"\n"] * 1000})
    call(context, "logs", *GROUP, "--json")
    pieces = [after - before for before, after in itertools.pairwise(written)]
    assert len(pieces) >= 1000
    assert max(pieces[1:]) < 1000


@pytest.mark.parametrize("when", ["write", "seek"])
def test_a_full_temporary_directory_is_an_error(
    when: str, store: Store, logging: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"tempfile.SpooledTemporaryFile.{when}", fail)
    add_group(store, FAILED)
    Answer(logging, {1: [b"x\n"]})
    found = result_of(context, "logs", *GROUP, "--json")
    assert (found["schema"], found["id"]) == ("caliban.error/1", "temporary-file-failed")
    assert found["hint"] is not None


def test_the_document_of_no_jobs_has_no_lines(store: Store, context: ScreenContext) -> None:
    assert call(context, "logs", "--json") == 0
    assert json.loads(context.out)["lines"] == []


@pytest.mark.parametrize("jobs", [1, 40])
def test_the_number_of_statements_does_not_depend_on_that_of_jobs(
    jobs: int, store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, *[FAILED] * jobs)
    for job_id in range(1, jobs + 1):
        store_output(store, context, job_id, b"x\n")
    Answer(logging, dict.fromkeys(range(1, jobs + 1), GONE))
    with sent_statements() as statements:
        assert call(context, "logs", *GROUP) == 0
    assert context.out.count("x\n") == jobs
    assert len([each for each in statements if each.startswith("SELECT jobs") or "job_logs" in each]) <= 3
