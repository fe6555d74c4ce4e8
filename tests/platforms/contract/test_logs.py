"""The output of jobs, on every platform that has it (``LogSource``).

What the program of a case writes before :meth:`ContractCase.write` is not looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import LogRequest, LogSource, Platform
from caliban.records import JobRecord, OutputLine
from tests.platforms.contract.case import ContractCase

LINES = [b"zero\n", b"one\n", b"two\n", b"three\n"]
ALL, FOLLOW = LogRequest(), LogRequest(follow=True)
DEADLINE = 60
"""Seconds that nothing takes, unless it hangs."""


def logs(platform: Platform, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
    assert isinstance(platform, LogSource)
    return platform.logs(job, request)


def read(case: ContractCase, job: JobRecord, request: LogRequest = ALL) -> list[bytes]:
    """Return the lines that another process reads, without their line breaks."""
    return [line.data.rstrip(b"\n") for line in logs(case.new_platform(), job, request)]


def written(lines: list[bytes]) -> list[bytes]:
    return [line.rstrip(b"\n") for line in lines]


def ended_job(case: ContractCase) -> JobRecord:
    """Return a job that has written the lines above, and failed."""
    job = case.submit()
    case.write(job, b"".join(LINES))
    case.end(job, succeeded=False)
    return case.updated(job)


class Follower:
    """Follows the output of a job on a thread, as a command does."""

    def __init__(self, case: ContractCase, job: JobRecord) -> None:
        self.lines: list[bytes] = []
        self.error: BaseException | None = None
        self.has_line = threading.Event()
        self._output = logs(case.new_platform(), job, FOLLOW)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for line in self._output:
                self.lines.append(line.data.rstrip(b"\n"))
                self.has_line.set()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def await_line(self) -> None:
        assert self.has_line.wait(DEADLINE), "the job's output was not passed on while it ran"

    def await_end(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the output did not end"
        assert self.error is None


def test_the_output_of_an_ended_job_comes_oldest_first(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    assert read(log_case, job)[-len(LINES) :] == written(LINES)


def test_the_output_of_a_running_job_is_what_it_has_written_so_far(log_case: ContractCase) -> None:
    job = log_case.submit()
    log_case.write(job, b"".join(LINES))
    assert read(log_case, job)[-len(LINES) :] == written(LINES)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_tail_is_the_last_lines_oldest_first(log_case: ContractCase, count: int) -> None:
    job = ended_job(log_case)
    assert read(log_case, job, LogRequest(tail=count)) == written(LINES)[-count:]


def test_a_tail_of_no_lines_is_empty(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    assert read(log_case, job, LogRequest(tail=0)) == []


def test_a_tail_that_is_longer_than_the_output_is_all_of_it(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    assert read(log_case, job, LogRequest(tail=10_000)) == read(log_case, job)


def test_each_job_has_its_own_output(log_case: ContractCase) -> None:
    one, other = log_case.submit(), log_case.submit()
    log_case.write(one, b"of one\n")
    log_case.write(other, b"of the other\n")
    assert read(log_case, one)[-1:] == [b"of one"]
    assert read(log_case, other)[-1:] == [b"of the other"]


def test_following_passes_on_what_comes_and_ends_when_the_job_ends(log_case: ContractCase) -> None:
    job = log_case.submit()
    log_case.write(job, LINES[0])
    follower = Follower(log_case, job)
    follower.await_line()
    log_case.write(job, b"".join(LINES[1:]))
    log_case.end(job, succeeded=True)
    follower.await_end()
    assert follower.lines[-len(LINES) :] == written(LINES)


def test_following_an_ended_job_ends(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    assert read(log_case, job, FOLLOW)[-len(LINES) :] == written(LINES)


def test_following_with_a_tail_begins_with_the_last_lines(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    assert read(log_case, job, LogRequest(tail=2, follow=True)) == written(LINES)[-2:]


def test_following_ends_when_the_command_is_to_stop(log_case: ContractCase) -> None:
    job = log_case.submit()
    log_case.write(job, LINES[0])
    follower = Follower(log_case, job)
    follower.await_line()
    log_case.stopping.set()
    follower.await_end()


def test_following_can_be_closed(log_case: ContractCase) -> None:
    job = log_case.submit()
    log_case.write(job, LINES[0])
    output = logs(log_case.platform, job, FOLLOW)
    assert isinstance(next(output), OutputLine)
    close: Callable[[], None] = getattr(output, "close")  # noqa: B009 - iterators need not have it, these must
    close()
    assert list(output) == []


def test_output_that_is_gone_is_an_error(log_case: ContractCase) -> None:
    job = ended_job(log_case)
    log_case.forget_output(job)
    with pytest.raises(CalibanError) as caught:
        read(log_case, job)
    assert caught.value.id == "output-gone"


@pytest.mark.parametrize("request_", [ALL, FOLLOW, LogRequest(tail=1)], ids=["all", "follow", "tail"])
def test_while_the_service_is_unreachable_reading_output_raises(log_case: ContractCase, request_: LogRequest) -> None:
    job = ended_job(log_case)
    log_case.disconnect()
    with pytest.raises(CalibanError):
        read(log_case, job, request_)


def test_the_output_of_several_jobs_can_be_read_at_the_same_time(log_case: ContractCase) -> None:
    jobs = [log_case.submit() for _ in range(3)]
    for job in jobs:
        log_case.write(job, LINES[0])
    followers = [Follower(log_case, job) for job in jobs]
    for follower in followers:
        follower.await_line()
    for job in jobs:
        log_case.end(job, succeeded=True)
    for follower in followers:
        follower.await_end()
