from __future__ import annotations

import pytest

from caliban.records import ContainerRecord, JobStatus, JsonObject, Outcome
from tests.builders import CPU_SPEC, a_job, an_experiment


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"sleep": 1}, ("--sleep", "1")),
        ({"rate": 0.01}, ("--rate", "0.01")),
        ({"rate": 1e-05}, ("--rate", "1e-05")),
        ({"sleep": -1}, ("--sleep", "-1")),
        ({"name": "a b"}, ("--name", "a b")),
        ({"name": ""}, ("--name", "")),
        ({"verbose": True}, ("--verbose",)),
        ({"verbose": False}, ()),
        ({"name": "True"}, ("--name", "True")),
        ({"on": 1, "off": 0}, ("--on", "1", "--off", "0")),
        ({}, ()),
    ],
)
def test_a_flag_is_written_as_a_command_line_has_it(kwargs: JsonObject, words: tuple[str, ...]) -> None:
    assert an_experiment(args=(), kwargs=kwargs).arguments == words


def test_arguments_after_the_dashes_come_before_the_flags() -> None:
    assert an_experiment(args=("--foo", "3"), kwargs={"sleep": 1}).arguments == ("--foo", "3", "--sleep", "1")


def test_flags_keep_the_order_in_which_they_were_recorded() -> None:
    assert an_experiment(args=(), kwargs={"b": 1, "a": 2}).arguments == ("--b", "1", "--a", "2")


@pytest.mark.parametrize(
    ("spec", "runs"),
    [
        (CPU_SPEC, "cpu.py"),
        ({"package": [["python", "-m"], "trainer", "trainer/train.py", "trainer.train"]}, "trainer/train.py"),
        ({"image_id": "gcr.io/totoro-project/cffd1475aaca:latest"}, "gcr.io/totoro-project/cffd1475aaca:latest"),
        ({"image_id": "lab:1", "package": [["python"], ".", "cpu.py", None]}, "cpu.py"),
        ({}, "(no script recorded)"),
        ({"package": None}, "(no script recorded)"),
        ({"package": "cpu.py"}, "(no script recorded)"),
        ({"package": [["python"], "."]}, "(no script recorded)"),
    ],
)
def test_a_container_is_called_after_what_it_runs(spec: JsonObject, runs: str) -> None:
    assert ContainerRecord(1, spec).entrypoint == runs


def test_the_latest_attempt_is_the_last() -> None:
    assert an_experiment(1, a_job(5), a_job(9)).latest == a_job(9)


def test_an_experiment_without_attempts_has_no_latest() -> None:
    assert an_experiment(1).latest is None


@pytest.mark.parametrize(
    ("status", "is_final", "wants_rerun", "is_good"),
    [
        (JobStatus.SUBMITTED, False, False, True),
        (JobStatus.RUNNING, False, False, True),
        (JobStatus.UNKNOWN, False, False, False),
        (JobStatus.SUCCEEDED, True, False, True),
        (JobStatus.FAILED, True, True, False),
        (JobStatus.STOPPED, True, True, False),
    ],
)
def test_what_a_state_means(status: JobStatus, is_final: bool, wants_rerun: bool, is_good: bool) -> None:
    outcome = Outcome(an_experiment(), a_job(status=status))
    assert (status.is_final, status.wants_rerun, outcome.is_good) == (is_final, wants_rerun, is_good)


def test_an_attempt_without_a_job_is_not_good() -> None:
    assert not Outcome(an_experiment(), None).is_good


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_state_is_shown_by_its_bare_name(status: JobStatus) -> None:
    assert (str(status), f"{status}", f"{status:9s}") == (status.value, status.value, status.value.ljust(9))
