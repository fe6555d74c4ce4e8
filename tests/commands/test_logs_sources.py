"""``caliban logs``: where the output of a job comes from, and what is told where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.errors import PlatformError, StoreError
from caliban.platforms.base import LogRequest
from caliban.records import JobRecord, JobStatus
from caliban.store.database import Store
from tests.builders import add_group
from tests.calls import call
from tests.commands.log_answers import GONE, GROUP, Answer, store_output
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock

FAILED, RUNNING = JobStatus.FAILED, JobStatus.RUNNING


def test_the_stored_end_is_shown_where_the_platform_has_no_output_any_more(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    store_output(store, context, 1, b"a\nb\n", is_complete=False)
    Answer(logging, {1: GONE})
    assert (call(context, "logs", "--job", "1"), context.out) == (0, "a\nb\n")
    assert context.err == (
        "job 1: only the last 4 bytes of its output, from the experiment store: the container was removed\n"
    )  # fmt: skip


def test_a_stored_output_that_is_complete_needs_no_remark(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    store_output(store, context, 1, b"a\nb\nc\n")
    Answer(logging, {1: GONE})
    assert (call(context, "logs", "--job", "1", "--tail", "2"), context.out, context.err) == (0, "b\nc\n", "")


def test_where_the_platform_answers_nothing_the_stored_end_is_shown(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    store_output(store, context, 1, b"a\nb\n")
    Answer(logging, {1: []})
    assert (call(context, "logs", "--job", "1", "--tail", "1"), context.out, context.err) == (0, "b\n", "")


def log_file(home: Path, name: str, content: bytes) -> Path:
    path = home / ".caliban" / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_file_on_this_machine_comes_before_the_store(
    store: Store, home: Path, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    store_output(store, context, 1, b"the end\n", is_complete=False)
    log_file(home, "fake-1", b"all\nof it\n")
    Answer(logging, {1: GONE})
    assert (call(context, "logs"), context.out) == (0, "all\nof it\n")


def test_the_path_of_the_file_is_printed(
    store: Store, home: Path, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED)
    path = log_file(home, "fake-1", b"")
    assert call(context, "logs", *GROUP, "--path") == 1
    assert context.out == f"{path}\n"
    assert "no file of this machine has the output of job 2 [no-log-file]" in context.err


def test_why_an_output_is_missing_is_told_and_the_other_jobs_are_shown(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED)
    store_output(store, context, 3, b"", unavailable="the pod was deleted")
    Answer(logging, {1: GONE, 2: [b"two\n"], 3: GONE})
    assert call(context, "logs", *GROUP) == 1
    assert "two\n" in context.out
    assert context.err.splitlines() == [
        "error: cannot show the output of job 1: the container was removed [output-gone]",
        "  hint: keep containers",
        "error: cannot show the output of job 3: the container was removed [output-gone]",
        "  cause: the container was removed",
        "    the pod was deleted",
    ]


def test_an_output_that_ends_with_an_error_is_shown_as_far_as_it_came(
    store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    store_output(store, context, 1, b"one\ntwo\n")
    Answer(logging, {1: [b"one\n", PlatformError("lost", "the connection was lost")]})
    assert (call(context, "logs"), context.out) == (1, "one\n")
    assert "error: cannot show the rest of the output of job 1: the connection was lost [lost]" in context.err


@pytest.mark.parametrize("problem", [RuntimeError("boom"), [5], [b"ok\n", 5]])
def test_whatever_a_platform_does_is_an_error_of_that_job(
    problem: object, store: Store, logging: FakeService, context: ScreenContext
) -> None:
    def answer(job: JobRecord, request: LogRequest) -> object:
        if job.id == 2:
            return [b"fine\n"]
        if isinstance(problem, Exception):
            raise problem
        return problem

    add_group(store, FAILED, FAILED)
    logging.expect("logs", answer, answer)
    assert call(context, "logs", *GROUP) == 1
    assert "fine\n" in context.out
    assert "output of job 1: the platform TEST failed to read the output of a job [internal-error]" in context.err


def test_a_platform_without_outputs_is_told(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    assert call(context, "logs") == 1
    assert "the platform TEST does not provide the output of jobs [logs-not-supported]" in context.err


def test_a_platform_that_is_not_installed_is_told(store: Store, unknown_platform: str, context: ScreenContext) -> None:
    add_group(store, FAILED, platform=unknown_platform)
    assert call(context, "logs") == 1
    assert "[platform-not-supported]" in context.err


def test_a_refused_job_never_ran(store: Store, logging: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, details={"error": "0 left"})
    assert (call(context, "logs"), context.out) == (0, "")
    assert context.err.endswith("job 1 never ran: 0 left\n")


@pytest.mark.parametrize(("state", "text"), [(FAILED, "job 1 has written nothing\n"), (RUNNING, "nothing yet\n")])
def test_a_job_that_wrote_nothing_is_told(
    state: JobStatus, text: str, store: Store, logging: FakeService, context: ScreenContext
) -> None:
    add_group(store, state)
    if state is RUNNING:
        logging.expect("statuses", polls(RUNNING=[1]))
    Answer(logging, {1: []})
    assert call(context, "logs") == 0
    assert context.err.endswith(text)


class ImpatientClock(FakeClock):
    """A clock whose waits on threads beside the command end at once, as after two seconds of silence."""

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(0.01)


def test_an_output_that_does_not_come_is_told_once(store: Store, logging: FakeService, context: ScreenContext) -> None:
    def slow() -> Iterator[bytes]:
        while "reading" not in context.err:
            time.sleep(0.001)
        yield b"late\n"

    vars(context)["clock"] = ImpatientClock()
    add_group(store, FAILED)
    logging.expect("logs", lambda job, request: slow())
    call(context, "logs", "--job", "1")
    assert (context.out, context.err) == ("late\n", "reading the output of job 1 ...\n")


def test_a_store_that_cannot_be_read_any_more_is_the_reason_of_that_job_only(
    store: Store, logging: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError("store-locked", "the store is locked")

    add_group(store, FAILED, FAILED)
    monkeypatch.setattr("caliban.commands.log_output.read_outputs", fail)
    Answer(logging, {1: GONE, 2: [b"two\n"]})
    assert call(context, "logs", *GROUP) == 1
    assert context.out.endswith("two\n")
    assert "the store is locked" in context.err
