from __future__ import annotations

import pytest

from caliban.errors import PlatformError
from caliban.records import (
    ContainerRecord,
    FailureCause,
    JobDetails,
    JobExit,
    JobStatus,
    JobUpdate,
    JsonObject,
    Outcome,
    StatusUnavailable,
)
from tests.builders import CPU_SPEC, a_job, an_experiment


@pytest.mark.parametrize(
    ("kwargs", "arguments"),
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
def test_a_flag_is_formatted_for_a_command_line(kwargs: JsonObject, arguments: tuple[str, ...]) -> None:
    assert an_experiment(args=(), kwargs=kwargs).arguments == arguments


def test_positional_arguments_come_before_the_flags() -> None:
    assert an_experiment(args=("--foo", "3"), kwargs={"sleep": 1}).arguments == ("--foo", "3", "--sleep", "1")


def test_flags_keep_the_order_in_which_they_were_recorded() -> None:
    assert an_experiment(args=(), kwargs={"b": 1, "a": 2}).arguments == ("--b", "1", "--a", "2")


@pytest.mark.parametrize(
    ("spec", "entrypoint"),
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
def test_the_entrypoint_of_a_container_is_its_script_or_image(spec: JsonObject, entrypoint: str) -> None:
    assert ContainerRecord(1, spec).entrypoint == entrypoint


def test_the_latest_attempt_is_the_last_one() -> None:
    assert an_experiment(1, a_job(5), a_job(9)).latest == a_job(9)


def test_an_experiment_without_attempts_has_no_latest() -> None:
    assert an_experiment(1).latest is None


@pytest.mark.parametrize(
    ("status", "is_final", "is_rerunnable", "is_good"),
    [
        (JobStatus.SUBMITTED, False, False, True),
        (JobStatus.RUNNING, False, False, True),
        (JobStatus.UNKNOWN, False, False, False),
        (JobStatus.SUCCEEDED, True, False, True),
        (JobStatus.FAILED, True, True, False),
        (JobStatus.STOPPED, True, True, False),
    ],
)
def test_states_are_final_rerunnable_and_good(
    status: JobStatus, is_final: bool, is_rerunnable: bool, is_good: bool
) -> None:
    outcome = Outcome(an_experiment(), a_job(status=status))
    assert (status.is_final, status.is_rerunnable, outcome.is_good) == (is_final, is_rerunnable, is_good)


def test_an_attempt_without_a_job_is_not_good() -> None:
    assert not Outcome(an_experiment(), None).is_good


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_state_is_formatted_by_its_name(status: JobStatus) -> None:
    assert (str(status), f"{status}", f"{status:9s}") == (status.value, status.value, status.value.ljust(9))


def test_an_attempt_with_an_error_is_not_good() -> None:
    assert not Outcome(an_experiment(), a_job(status=JobStatus.RUNNING), PlatformError("x", "no")).is_good


RUNNING = a_job(1, JobStatus.RUNNING, details={"name": "fake"})
OUT_OF_MEMORY = JobDetails({"name": "fake"}, exit=JobExit(137, FailureCause.OUT_OF_MEMORY, "out of memory"))


def test_an_update_replaces_state_and_details() -> None:
    updated = RUNNING.updated(JobUpdate(JobStatus.FAILED, OUT_OF_MEMORY))
    assert (updated.status, updated.details, updated.reason) == (JobStatus.FAILED, OUT_OF_MEMORY, "out of memory")


def test_an_update_without_details_keeps_the_recorded_ones() -> None:
    updated = RUNNING.updated(JobUpdate(JobStatus.SUCCEEDED))
    assert (updated.status, updated.details) == (JobStatus.SUCCEEDED, RUNNING.details)


def test_an_unavailable_status_keeps_state_and_details_and_says_why() -> None:
    updated = RUNNING.updated(StatusUnavailable("no route"))
    assert (updated.status, updated.details, updated.refresh_error) == (JobStatus.RUNNING, RUNNING.details, "no route")


def test_an_update_removes_an_earlier_refresh_error() -> None:
    updated = RUNNING.updated(StatusUnavailable("no route")).updated(JobUpdate(JobStatus.RUNNING))
    assert updated == RUNNING


def test_an_update_changes_nothing_else() -> None:
    updated = RUNNING.updated(JobUpdate(JobStatus.FAILED, OUT_OF_MEMORY))
    for name in ("id", "platform", "spec_id", "spec", "container", "created"):
        assert getattr(updated, name) == getattr(RUNNING, name)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (JobDetails(), None),
        (JobDetails(exit=JobExit(1)), None),
        (JobDetails(exit=JobExit(message="out of memory")), "out of memory"),
        (JobDetails(pending_reason="unschedulable"), "unschedulable"),
        (JobDetails(exit=JobExit(message="out of memory"), pending_reason="unschedulable"), "out of memory"),
    ],
)
def test_the_reason_of_a_job_is_that_of_its_end_or_of_its_wait(details: JobDetails, reason: str | None) -> None:
    assert details.reason == reason


def test_details_are_hashable_although_their_raw_json_is_not() -> None:
    assert hash(JobDetails({"name": "fake"})) == hash(JobDetails({"name": "other"}))
