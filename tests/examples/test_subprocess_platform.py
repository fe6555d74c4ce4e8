"""What is particular to the platform of the example: processes, their directories, and signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import PlatformError
from caliban.records import JobStatus, StatusUnavailable
from caliban_subprocess import processes
from contract_case import SubprocessCase
from tests.fake_service import may_send


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SubprocessCase]:
    made = SubprocessCase(tmp_path, monkeypatch)
    with made.running():
        yield made


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The directory of a job."""
    return tmp_path / "job"


def start(job: Path, script: str) -> None:
    processes.start(job, ["/bin/sh", "-c", script], str(job.parent), {"PATH": os.environ["PATH"]})


def wait(is_over: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_over():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def output(job: Path) -> str:
    return (job / "output").read_text() if (job / "output").exists() else ""


def test_a_second_start_while_the_process_runs_starts_nothing(job: Path) -> None:
    for _ in range(2):
        start(job, "echo begun >> begun; until [ -e over ]; do sleep 0.02; done")
    (job.parent / "over").touch()
    wait(lambda: (job / "exit").exists())
    assert (job.parent / "begun").read_text() == "begun\n"


def test_a_second_start_after_the_process_ended_starts_nothing(job: Path) -> None:
    start(job, "exit 3")
    wait(lambda: (job / "exit").exists())
    start(job, "exit 4")
    assert processes.read(job) == processes.State(str(job.parent), False, False, 3)


def test_the_exit_code_of_a_killed_program_is_that_of_a_shell(job: Path) -> None:
    start(job, "kill -KILL $$")
    wait(lambda: (job / "exit").exists())
    state = processes.read(job)
    assert state is not None
    assert state.code == 128 + signal.SIGKILL


def test_a_program_that_ignores_sigterm_is_killed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.2)
    start(job, "trap '' TERM; echo ready; for _ in $(seq 3000); do sleep 0.02; done")
    wait(lambda: output(job) == "ready\n")
    processes.stop(job, time.sleep)
    assert processes.read(job) == processes.State(str(job.parent), False, True, None)


def test_processes_that_the_program_started_are_stopped_too(job: Path) -> None:
    start(job, "sleep 600 & echo $!; wait")
    wait(lambda: output(job).endswith("\n"))
    child = int(output(job))
    processes.stop(job, time.sleep)
    wait(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended may stay as a zombie until it is waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_reused_process_id_is_not_taken_for_the_job(case: SubprocessCase) -> None:
    job = case.submit()
    case.remove(job)
    pid_file = Path(str(case.destination.to_json()["directory"])) / str(job.details.display_name) / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    assert case.status(job).status is JobStatus.UNKNOWN
    assert case.platform.stop(job).status is JobStatus.UNKNOWN  # and this process still runs


def test_a_job_of_another_machine_keeps_its_state(case: SubprocessCase) -> None:
    job = case.submit()
    elsewhere = {**job.details.raw, "host": "catbus"}
    moved = replace(job, details=case.platform.parse_details(job.status, elsewhere))
    assert case.platform.statuses([moved]) == {job.id: StatusUnavailable("the job runs on catbus")}
    with pytest.raises(PlatformError):
        case.platform.stop(moved)


def test_jobs_keep_their_states_while_their_directory_is_away(case: SubprocessCase) -> None:
    job = case.submit()
    state = Path(str(case.destination.to_json()["directory"]))
    away = state.rename(state.parent / "away")
    [answer] = case.platform.statuses([job]).values()
    assert isinstance(answer, StatusUnavailable)
    away.rename(state)
    assert case.status(job).status is JobStatus.RUNNING


def test_a_command_that_does_not_exist_is_refused(case: SubprocessCase) -> None:
    spec = {**case.spec(), "command": ["no-such-command"]}
    with pytest.raises(PlatformError) as caught:
        case.platform.submit(spec, case.submission(spec), may_send)
    assert (caught.value.id, caught.value.cause) == ("process-not-started", "command not found: no-such-command")


def test_a_process_that_could_not_be_started_is_not_reported_as_running(case: SubprocessCase) -> None:
    spec = case.spec()
    submission = case.submission(spec)
    directory = Path(str(case.destination.to_json()["directory"])) / submission.name
    directory.mkdir()
    (directory / "pid").symlink_to("/nonexistent/pid")  # so that the shell cannot write it
    with pytest.raises(PlatformError) as caught:
        case.platform.submit(spec, submission, may_send)
    assert caught.value.cause == "its process id could not be recorded"
    assert not (directory / "output").exists()
