"""Why local jobs end: what the engine reports, in the words of all platforms."""

from __future__ import annotations

import pytest

from caliban.platforms.docker.details import container_update, parse_details, refused_details
from caliban.platforms.docker.state import ContainerState
from caliban.records import FailureCause, JobExit, JobStatus
from tests.builders import a_submission

STARTED, ENDED, NEVER = "2020-05-29T10:53:40Z", "2020-05-29T10:54:00Z", "0001-01-01T00:00:00Z"


def ended(code: int, **state: object) -> tuple[JobStatus, JobExit]:
    reported = {"Status": "exited", "ExitCode": code, "StartedAt": STARTED, "FinishedAt": ENDED, **state}
    update = container_update({"name": "caliban-1"}, ContainerState.from_json(reported))
    assert update.details is not None
    assert update.details.exit is not None
    return update.status, update.details.exit


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1, FailureCause.CODE_ERROR),
        (2, FailureCause.CODE_ERROR),
        (124, FailureCause.TIMEOUT),
        (125, FailureCause.CODE_ERROR),
        (126, FailureCause.CODE_ERROR),
        (127, FailureCause.CODE_ERROR),
        (128, FailureCause.CODE_ERROR),
        (130, FailureCause.STOPPED),
        (134, FailureCause.CODE_ERROR),
        (137, FailureCause.STOPPED),
        (139, FailureCause.CODE_ERROR),
        (143, FailureCause.STOPPED),
        (255, FailureCause.UNKNOWN),
    ],
)
def test_exit_codes_of_programs_have_their_conventional_causes(code: int, cause: FailureCause) -> None:
    status, end = ended(code)
    assert (status, end.code, end.cause) == (JobStatus.FAILED, code, cause)


@pytest.mark.parametrize("code", [1, 126, 137, 143, 255])
def test_a_job_of_which_a_process_was_killed_for_lack_of_memory_is_out_of_memory_whatever_its_exit_code(
    code: int,
) -> None:
    assert ended(code, OOMKilled=True) == (
        JobStatus.FAILED,
        JobExit(code, FailureCause.OUT_OF_MEMORY, "out of memory"),
    )


def test_a_job_that_survives_the_lack_of_memory_of_a_child_succeeds() -> None:
    assert ended(0, OOMKilled=True) == (JobStatus.SUCCEEDED, JobExit(0, None, "out of memory"))


def test_sigkill_that_neither_caliban_nor_the_kernel_sent_is_named() -> None:
    _, end = ended(137)
    assert end.message == "killed by something other than caliban: docker kill, or a lack of memory"


@pytest.mark.parametrize("finished", [NEVER, "", None, "2020-05-29T10:53:30Z"])
def test_an_end_that_the_engine_did_not_see_is_no_success(finished: object) -> None:
    status, end = ended(0, FinishedAt=finished)
    assert (status, end.cause) == (JobStatus.FAILED, FailureCause.INFRASTRUCTURE)
    assert "restarted while the job ran" in str(end.message)


def test_a_job_that_ended_within_a_moment_succeeds() -> None:
    assert ended(0, FinishedAt="2020-05-29T10:53:39.9Z")[0] is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ('exec: "train": executable file not found in $PATH: unknown', FailureCause.IMAGE),
        ("exec /bin/sh: exec format error", FailureCause.IMAGE),
        (
            'unable to start container process: exec: "/train": stat /train: no such file or directory',
            FailureCause.IMAGE,
        ),
        ('exec: "/train": permission denied: unknown', FailureCause.IMAGE),
        ("error mounting /x: permission denied: unknown", FailureCause.REFUSED),
        ("Unable to find image 'lab:1' locally", FailureCause.IMAGE),
        ("pull access denied for lab", FailureCause.IMAGE),
        ("error while creating mount source path '/x': mkdir /x: read-only file system", FailureCause.REFUSED),
        ('could not select device driver "" with capabilities: [[gpu]]', FailureCause.REFUSED),
    ],
)
def test_a_container_that_was_not_started_names_its_image_or_is_a_refusal(error: str, cause: FailureCause) -> None:
    end = ended(127, Status="created", StartedAt=NEVER, FinishedAt=NEVER, Error=error)[1]
    refused = parse_details(JobStatus.FAILED, refused_details(a_submission(), error)).exit
    assert (end.cause, end.message) == (cause, error)
    assert refused == JobExit(None, cause, error)


@pytest.mark.parametrize(
    ("code", "cause"), [(125, FailureCause.REFUSED), (126, FailureCause.IMAGE), (127, FailureCause.IMAGE)]
)
def test_exit_codes_that_caliban_0_4_2_recorded_are_those_of_docker_run(code: int, cause: FailureCause) -> None:
    assert parse_details(JobStatus.FAILED, {"ret_code": code}).exit == JobExit(code, cause)


def test_start_and_end_are_recorded_in_utc() -> None:
    state = {"Status": "exited", "ExitCode": 3, "StartedAt": "2020-05-29T12:53:40+02:00", "FinishedAt": ENDED}
    update = container_update({}, ContainerState.from_json(state))
    assert update.details is not None
    assert (str(update.details.started), str(update.details.ended)) == (
        "2020-05-29 10:53:40+00:00",
        "2020-05-29 10:54:00+00:00",
    )
