"""Jobs of another Docker Engine than the one that answers: it cannot be asked about them."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.images.docker.identity import EngineIdentity, engine_identity
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.details import DockerDestination
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, StatusUnavailable
from tests.fakes import may_send

from .fake_docker import INFO, FakeDocker
from .helpers import OutputReporter

OTHER = "the job is on another Docker Engine (catbus)"
PODMAN = {"Name": "catbus", "DockerRootDir": "/home/totoro/containers", "BuildahVersion": "1.31.2"}


def with_details(job: JobRecord, **raw: object) -> JobRecord:
    merged = {key: value for key, value in {**job.details.raw, **raw}.items() if value is not None}
    return replace(job, details=DockerPlatform.parse_details(job.status, merged))


@pytest.fixture
def elsewhere(running: JobRecord, docker: FakeDocker, context: PlatformContext) -> DockerPlatform:
    """The platform of a process whose engine is another one, without the container."""
    docker.info = {**INFO, "ID": "another", "Name": "nekobasu"}
    docker.containers.clear()
    return DockerPlatform(context)


def test_the_state_of_a_job_of_another_engine_is_unavailable(elsewhere: DockerPlatform, running: JobRecord) -> None:
    assert elsewhere.statuses([running]) == {running.id: StatusUnavailable(OTHER)}


def test_a_job_of_another_engine_cannot_be_stopped(elsewhere: DockerPlatform, running: JobRecord) -> None:
    with pytest.raises(PlatformError) as caught:
        elsewhere.stop(running)
    assert (caught.value.id, caught.value.cause) == ("job-out-of-reach", OTHER)
    assert "DOCKER_HOST" in (caught.value.hint or "")


def test_a_submission_to_another_engine_cannot_be_looked_up(elsewhere: DockerPlatform, submission: Submission) -> None:
    with pytest.raises(PlatformError) as caught:
        elsewhere.find(submission)
    assert (caught.value.id, caught.value.cause) == ("job-out-of-reach", OTHER)


def test_a_submission_to_another_engine_is_not_sent_here(
    elsewhere: DockerPlatform, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    with pytest.raises(PlatformError, match="cannot look up"):
        elsewhere.submit(spec, submission, may_send)
    assert docker.containers == {}


def test_an_unfinished_job_of_another_engine_is_not_run_again_here(
    elsewhere: DockerPlatform, running: JobRecord
) -> None:
    with pytest.raises(PlatformError) as caught:
        elsewhere.destination(running)
    assert (caught.value.id, caught.value.cause) == ("job-out-of-reach", OTHER)


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED])
def test_a_finished_job_of_another_engine_is_run_again_here_with_a_word(
    elsewhere: DockerPlatform, running: JobRecord, reporter: OutputReporter, status: JobStatus
) -> None:
    ended = replace(running, status=status)
    assert elsewhere.destination(ended) == DockerDestination("another", "nekobasu")
    elsewhere.destination(ended)
    assert reporter.lines == [f"{OTHER}: run again on the Docker Engine of nekobasu"]


def test_a_container_that_is_missing_on_an_engine_of_the_same_id_and_another_name_may_be_elsewhere(
    elsewhere: DockerPlatform, docker: FakeDocker, running: JobRecord, submission: Submission
) -> None:
    """Machines that were cloned from one image have engines of one id."""
    docker.info = {**INFO, "Name": "clone"}
    answer = elsewhere.statuses([running])[running.id]
    assert isinstance(answer, StatusUnavailable)
    with pytest.raises(PlatformError):
        elsewhere.stop(running)
    with pytest.raises(PlatformError):
        elsewhere.find(submission)


def test_an_engine_whose_machine_was_renamed_knows_its_jobs(
    context: PlatformContext, docker: FakeDocker, running: JobRecord, submission: Submission
) -> None:
    docker.info = {**INFO, "Name": "renamed"}
    platform = DockerPlatform(context)
    assert platform.statuses([running]) == {running.id: JobUpdate(JobStatus.RUNNING)}
    assert platform.find(submission) is not None
    assert platform.stop(running).status is JobStatus.STOPPED


@pytest.mark.parametrize("raw", [{"engine": None, "engine_name": None}, {"engine": None}])
def test_a_job_of_an_earlier_version_is_found_by_its_container(
    platform: DockerPlatform, running: JobRecord, raw: JsonObject
) -> None:
    old = with_details(running, **raw)
    assert platform.statuses([old]) == {old.id: JobUpdate(JobStatus.RUNNING)}
    assert platform.stop(old).status is JobStatus.STOPPED


def test_a_missing_container_of_an_earlier_version_may_be_on_another_engine(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, submission: Submission
) -> None:
    old = with_details(running, engine=None, engine_name=None)
    docker.containers.clear()
    reason = "its container is not on the Docker Engine of catbus; it may have run on another one"
    assert platform.statuses([old]) == {old.id: StatusUnavailable(reason)}
    with pytest.raises(PlatformError):
        platform.stop(old)
    with pytest.raises(PlatformError):
        platform.find(replace(submission, destination={}))


def test_a_job_of_an_earlier_version_on_another_host_is_left_alone(
    platform: DockerPlatform, running: JobRecord
) -> None:
    old = with_details(running, engine=None, engine_name=None, host="nekobasu")
    assert platform.statuses([old]) == {old.id: StatusUnavailable("the job runs on nekobasu")}
    with pytest.raises(PlatformError):
        platform.stop(old)
    with pytest.raises(PlatformError):
        platform.destination(old)


@pytest.mark.parametrize("key", ["engine_name", "host"])
def test_a_recorded_name_is_shown_without_control_characters(
    elsewhere: DockerPlatform, running: JobRecord, key: str
) -> None:
    raw = {"engine": None if key == "host" else "x", key: "a\x1b[2J\nb\u202e" + "x" * 1000}
    answer = elsewhere.statuses([with_details(running, **raw)])[running.id]
    assert isinstance(answer, StatusUnavailable)
    assert (answer.reason.isprintable(), len(answer.reason) < 400) == (True, True)


def test_the_hosts_name_does_not_matter_where_the_engine_is_recorded(
    platform: DockerPlatform, running: JobRecord
) -> None:
    moved = with_details(running, host=f"not-{socket.gethostname()}")
    assert platform.statuses([moved]) == {moved.id: JobUpdate(JobStatus.RUNNING)}


@pytest.mark.parametrize(
    ("info", "identity"),
    [
        (INFO, EngineIdentity("a1b2-engine", "catbus")),
        ({"ID": "x"}, EngineIdentity("x", None)),
        ({"ID": "", "Name": "catbus", "DockerRootDir": "/d"}, EngineIdentity("catbus:/d", "catbus")),
        ({"ID": " ", "Name": "catbus"}, EngineIdentity(None, "catbus")),
        ({"ID": None, "Name": None}, EngineIdentity()),
        ({"ID": 5, "Name": ["x"], "DockerRootDir": {}}, EngineIdentity()),
        ({}, EngineIdentity()),
        ([], EngineIdentity()),
        (None, EngineIdentity()),
        ({**PODMAN, "ID": "random-1"}, EngineIdentity("catbus:/home/totoro/containers", "catbus")),
        ({**PODMAN, "ID": "random-2"}, EngineIdentity("catbus:/home/totoro/containers", "catbus")),
    ],
)
def test_an_engine_is_identified_by_its_id_or_by_where_its_data_is(info: object, identity: EngineIdentity) -> None:
    assert engine_identity(info) == identity


def test_an_engine_without_any_identity_can_be_used_and_absence_there_proves_nothing(
    context: PlatformContext, docker: FakeDocker, spec: JsonObject, submission: Submission
) -> None:
    docker.info = {}
    platform = DockerPlatform(context)
    anonymous = replace(submission, destination=platform.destination(None).to_json())
    assert anonymous.destination == {}
    job = platform.submit(spec, anonymous, may_send)
    assert (job.status, platform.find(anonymous) is not None) == (JobStatus.RUNNING, True)
    docker.containers.clear()
    with pytest.raises(PlatformError):
        platform.find(anonymous)


def test_an_engine_that_cannot_be_reached_is_asked_once(context: PlatformContext, tmp_path: Path) -> None:
    attempts: list[int] = []

    def connect() -> object:
        attempts.append(1)
        raise PlatformError("docker-unreachable", "cannot reach the Docker daemon")

    platform = DockerPlatform(replace(context, engine=connect))  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(PlatformError):
            platform.destination(None)
    assert attempts == [1]
