"""Jobs of another Docker Engine than the one that answers: it cannot be asked about them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import Batch, Owner, Submission
from caliban.errors import PlatformError
from caliban.images.docker.identity import EngineIdentity, engine_identity
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.details import DockerDestination
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob, StatusUnavailable
from tests.fake_service import may_send

from .fake_engine import INFO, FakeDocker
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
    assert elsewhere.statuses([running]) == {running.id: StatusUnavailable(OTHER, is_permanent=True)}


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
    assert platform.statuses([old]) == {old.id: StatusUnavailable(reason, is_permanent=True)}
    with pytest.raises(PlatformError):
        platform.stop(old)
    with pytest.raises(PlatformError):
        platform.find(replace(submission, destination={}))


def test_a_job_of_an_earlier_version_whose_container_is_not_here_may_be_on_its_host(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    old = with_details(running, engine=None, engine_name=None, host="nekobasu")
    docker.containers.clear()
    assert platform.statuses([old]) == {old.id: StatusUnavailable("the job runs on nekobasu", is_permanent=True)}
    with pytest.raises(PlatformError):
        platform.stop(old)
    with pytest.raises(PlatformError):
        platform.destination(old)


OTHER_NAMES = [
    pytest.param({"engine": None, "engine_name": None, "host": "nekobasu"}, id="host"),
    pytest.param({"engine": "catbus:/data", "engine_name": "catbus"}, id="podman"),
    pytest.param({"engine": "another"}, id="id"),
]


@pytest.mark.parametrize("raw", OTHER_NAMES)
def test_the_engine_that_has_the_container_is_the_jobs_whatever_it_and_the_host_were_called(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, raw: JsonObject
) -> None:
    """A laptop on another network; a development container that was built again."""
    renamed = with_details(running, **raw)
    assert platform.statuses([renamed]) == {running.id: JobUpdate(JobStatus.RUNNING)}
    assert platform.destination(renamed) == DockerDestination("a1b2-engine", "catbus")
    [container] = docker.containers.values()
    container.end(3)
    answer = platform.statuses([renamed])[running.id]
    assert isinstance(answer, JobUpdate)
    assert answer.status is JobStatus.FAILED
    platform.remove(replace(renamed, status=JobStatus.FAILED))
    assert docker.containers == {}


@pytest.mark.parametrize("raw", OTHER_NAMES)
def test_a_job_is_stopped_on_the_engine_that_has_its_container(
    platform: DockerPlatform, running: JobRecord, raw: JsonObject
) -> None:
    assert platform.stop(with_details(running, **raw)).status is JobStatus.STOPPED


def test_a_submission_is_found_on_the_engine_that_has_its_container(
    platform: DockerPlatform, running: JobRecord, submission: Submission
) -> None:
    found = platform.find(replace(submission, destination={"engine": "catbus:/data", "engine_name": "catbus"}))
    assert found is not None
    assert (found.status, found.details.raw["engine"]) == (JobStatus.RUNNING, "a1b2-engine")


@pytest.fixture
def on_this_machine(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> Callable[[JsonObject], None]:
    """Give the engine, which is on this machine, another identity, and the machine the engine's name."""

    def rename(info: JsonObject) -> None:
        docker.info = dict(info)
        monkeypatch.setattr("socket.gethostname", lambda: info["Name"])

    monkeypatch.setattr("caliban.platforms.docker.platform.machine_id", lambda: "m1")
    rename(INFO)
    return rename


@pytest.mark.parametrize(
    ("before", "after"),
    [(INFO, {**INFO, "Name": "renamed"}), (PODMAN, {**PODMAN, "Name": "renamed"})],
    ids=["docker", "podman"],
)
def test_a_missing_container_of_a_machine_that_was_renamed_was_removed(
    before: JsonObject,
    after: JsonObject,
    on_this_machine: Callable[[JsonObject], None],
    context: PlatformContext,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    record: Callable[[NewJob], JobRecord],
) -> None:
    on_this_machine(before)
    first = DockerPlatform(context)
    batch = Batch(1, Owner("m1", "boot", None, 1, 1), 0, 0.0)
    submission = replace(submission, destination=first.destination(None).to_json(), batch=batch)
    job = record(first.submit(spec, submission, may_send))
    docker.containers.clear()
    on_this_machine(after)
    platform = DockerPlatform(context)
    answer = platform.statuses([job])[job.id]
    assert isinstance(answer, JobUpdate)
    assert (answer.status, platform.find(submission)) == (JobStatus.UNKNOWN, None)


@pytest.mark.parametrize("machine", [None, "m2"])
def test_a_missing_container_of_a_clone_of_this_machine_may_be_there(
    machine: str | None,
    on_this_machine: Callable[[JsonObject], None],
    context: PlatformContext,
    docker: FakeDocker,
    running: JobRecord,
) -> None:
    on_this_machine({**INFO, "Name": "clone"})
    docker.containers.clear()
    answer = DockerPlatform(context).statuses([with_details(running, machine=machine)])[running.id]
    assert isinstance(answer, StatusUnavailable)


def test_the_machine_of_an_engine_of_another_name_is_not_recorded(
    on_this_machine: Callable[[JsonObject], None],
    platform: DockerPlatform,
    monkeypatch: pytest.MonkeyPatch,
    spec: JsonObject,
    submission: Submission,
) -> None:
    """Its socket may be forwarded from elsewhere, or be that of the host of this container."""
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert "machine" not in platform.submit(spec, submission, may_send).details.raw


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
