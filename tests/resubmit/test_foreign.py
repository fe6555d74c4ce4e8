"""Jobs that someone else recorded: what their re-run would do is shown before anything is asked or done."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from caliban.attempts import SubmissionState
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, JobStatus, JsonObject, PlatformId
from caliban.store.database import Access, Store, open_store
from caliban.store.models import SubmissionRow
from caliban.submission.setup import make_platforms
from tests.builders import CREATED, IMAGE, a_job, add_group
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeEngine, RecordingReporter

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
PLAIN = ["--ipc", "host", "-e", "PYTHONUNBUFFERED=1"]
EVIL = ["--privileged", "-v", "/:/host", "--network=host", "--env-file", "/home/totoro/.env"]


def local_spec(*arguments: str) -> JsonObject:
    return {"command": ["docker", "run", *arguments, IMAGE, "--foo", "3"], "container": IMAGE}


AddJob = Callable[..., None]


@pytest.fixture
def add_job(store: Store, fake_engine: FakeEngine) -> AddJob:
    """Records a failed local job of the user totoro, as someone else or with a submission of another host."""

    def add(
        spec: JsonObject, *, user: str | None = "totoro", host: str | None = None, submitted_by: str = "totoro"
    ) -> None:
        add_group(store, JobStatus.FAILED, platform="LOCAL", container_spec={"image_id": "lab:1"}, job_spec=spec)
        with store.writing() as session:
            session.execute(text("UPDATE jobs SET user = :user"), {"user": user})
            if host is not None:
                row = SubmissionRow(token="0123", experiment_id=1, job_spec_id=1, platform="LOCAL", target={}, name="n")
                row.user, row.host, row.pid, row.created = submitted_by, host, 1, CREATED
                row.state, row.job_id = SubmissionState.DONE, 1
                session.add(row)

    return add


def test_docker_arguments_that_another_user_recorded_are_shown_before_the_question(
    add_job: AddJob, make_context: MakeContext
) -> None:
    add_job(local_spec(*PLAIN, *EVIL), user="mei")
    context = make_context("n\n")
    assert call(context, *RESUBMIT) == 1
    assert context.out.splitlines()[3:] == [
        "recorded by mei, and part of the re-run:",
        "  run the image lab:1, which is not built here (1 job)",
        "  docker run --privileged -v /:/host --network=host --env-file /home/totoro/.env (1 job)",
    ]


def test_they_follow_the_lines_of_the_document_in_a_dry_run(add_job: AddJob, context: ScreenContext) -> None:
    add_job(local_spec(*EVIL), user="mei")
    call(context, *RESUBMIT, "--dry_run")
    lines = context.out.splitlines()
    assert lines[0] == "the following jobs would be resubmitted:"
    assert lines.index("recorded by mei, and part of the re-run:") == 3
    assert "container images:" in lines[4:]


@pytest.mark.parametrize(
    ("recorded", "stranger"),
    [
        ({"user": "mei"}, "mei"),
        ({"user": None}, "an unknown user"),
        ({"host": "laptop"}, "totoro on laptop"),
        ({"host": socket.gethostname(), "submitted_by": "mei"}, "mei"),
        ({"host": "laptop", "submitted_by": "mei"}, "mei on laptop"),
        ({"user": "mei", "host": "laptop"}, "mei on laptop"),
    ],
)
def test_another_user_or_host_is_a_stranger(
    recorded: dict[str, Any], stranger: str, add_job: AddJob, context: ScreenContext
) -> None:
    add_job(local_spec(*EVIL), **recorded)
    call(context, *RESUBMIT, "--dry_run")
    assert f"recorded by {stranger}, and part of the re-run:" in context.out.splitlines()


@pytest.mark.parametrize("recorded", [{}, {"host": socket.gethostname()}])
def test_nothing_is_shown_of_ones_own_jobs(recorded: dict[str, str], add_job: AddJob, context: ScreenContext) -> None:
    add_job(local_spec(*EVIL), **recorded)
    call(context, *RESUBMIT, "--dry_run")
    assert "recorded by" not in context.out


def test_a_store_of_an_earlier_version_is_read_too(add_job: AddJob, store_url: str, context: ScreenContext) -> None:
    add_job(local_spec(*EVIL), user="mei")
    with open_store(store_url, Access.WRITE, RecordingReporter()) as store, store.writing() as session:
        session.execute(text("DROP TABLE submissions"))
        session.execute(text("DROP TABLE caliban_version"))
    call(context, *RESUBMIT, "--dry_run")
    assert "recorded by mei, and part of the re-run:" in context.out.splitlines()


def test_a_directory_that_a_stranger_chose_is_shown(
    store: Store, service: FakeService, fake_engine: FakeEngine, cwd: Path, context: ScreenContext
) -> None:
    (cwd / "cpu.py").touch()
    (cwd / "data").mkdir()
    spec = {
        "build_path": str(cwd),
        "extra_dirs": ["data"],
        "job_mode": "CPU",
        "package": [["python"], ".", "cpu.py", None],
        "caliban_config": {"registry": "registry.evil.example/x"},
    }
    add_group(store, JobStatus.FAILED, container_spec=spec)
    with store.writing() as session:
        session.execute(text("UPDATE jobs SET user = 'mei'"))
    call(context, *RESUBMIT, "--dry_run")
    assert f"  build from {cwd}, {cwd / 'data'} (1 job)" in context.out.splitlines()
    assert "  push the image to registry.evil.example/x (1 job)" in context.out.splitlines()


def test_escapes_in_what_is_shown_are_visible(add_job: AddJob, context: ScreenContext) -> None:
    add_job(local_spec("-v", "/:/x\x1b[2K\r\u202e"), user="mei\nerror: forged")
    call(context, *RESUBMIT, "--dry_run")
    assert "recorded by mei\\nerror: forged, and part of the re-run:" in context.out.splitlines()
    assert "  docker run -v '/:/x\\x1b[2K\\r\\u202e' (1 job)" in context.out.splitlines()


def effects(platform: PlatformId, job: JobRecord, options: dict[str, object] | None = None) -> tuple[str, ...]:
    platforms: Platforms = make_platforms({}, Path("/nowhere"), RecordingReporter(), options)
    return platforms.get(platform).effects(job)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], ()),
        (["--gpus", "all", *PLAIN], ()),
        (["--gpus", "all", "--rm", *PLAIN, "--gpus", "2"], ("docker run --gpus 2",)),
        (["-e", "PYTHONUNBUFFERED=1", "-e", "TOKEN"], ("docker run -e TOKEN",)),
        (["--ipc", "container:db"], ("docker run --ipc container:db",)),
        (["--mount", "type=bind,src=/ home,dst=/x"], ("docker run --mount 'type=bind,src=/ home,dst=/x'",)),
    ],
)
def test_docker_arguments_of_every_job_are_left_out(arguments: list[str], shown: tuple[str, ...]) -> None:
    assert effects("LOCAL", a_job(platform="LOCAL", spec=local_spec(*arguments))) == shown


def pod(**more: object) -> dict[str, object]:
    containers = [{"name": "cpu", "image": IMAGE, "args": ["--foo"], "env": [], "resources": {}}]
    return {"backoffLimit": 0, "template": {"metadata": {}, "spec": {"containers": containers, **more}}}


CLUSTER = {"context": "prod", "job": {"metadata": {"name": "j", "uid": "u", "namespace": "ml"}}}


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, []),
        ({"restartPolicy": "Never", "hostIPC": True, "nodeSelector": {"a": "b"}}, []),
        ({"hostNetwork": True, "hostPID": False}, ["template.spec.hostNetwork: true"]),
        ({"serviceAccountName": "admin"}, ["template.spec.serviceAccountName: admin"]),
        (
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
            ['template.spec.volumes: {"name": "v", "hostPath": {"path": "/"}}'],
        ),
        ({"initContainers": [{"image": "evil"}]}, ['template.spec.initContainers: [{"image": "evil"}]']),
    ],
)
def test_settings_of_a_pod_that_caliban_does_not_make_are_shown(more: dict[str, object], shown: list[str]) -> None:
    job = a_job(platform="KUBERNETES", spec=pod(**more), details=CLUSTER)
    assert effects("KUBERNETES", job) == (*shown, "run in the namespace ml, context prod, with your credentials")


def vertex(**more: object) -> dict[str, object]:
    pool = {"machineSpec": {}, "replicaCount": "1", "containerSpec": {"imageUri": IMAGE, "args": []}}
    return {"displayName": "x_1", "labels": {}, "jobSpec": {"workerPoolSpecs": [pool], **more}}


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (vertex(), ()),
        (vertex(serviceAccount="a@evil.example"), ("jobSpec.serviceAccount: a@evil.example",)),
        (vertex(network="projects/1/global/networks/n"), ("jobSpec.network: projects/1/global/networks/n",)),
    ],
)
@pytest.mark.parametrize(("options", "where"), [({}, "evil"), ({"project_id": "mine"}, None)])
def test_accounts_networks_and_the_project_of_a_cloud_job_are_shown(
    spec: JsonObject, shown: tuple[str, ...], options: dict[str, object], where: str | None
) -> None:
    details = {"project_id": "evil", "region": "us-central1", "name": "projects/1/locations/us-central1/customJobs/1"}
    job = a_job(platform="VERTEX", spec=spec, details=details)
    place = (f"run in the project {where}, with your credentials",) if where else ()
    assert effects("VERTEX", job, options) == (*shown, *place)


def test_an_image_that_stays_in_another_worker_pool_is_shown() -> None:
    spec: Any = vertex()
    spec["jobSpec"]["workerPoolSpecs"].append({"containerSpec": {"imageUri": "evil:1"}})
    assert effects("VERTEX", a_job(platform="VERTEX", spec=spec)) == ("run the image evil:1, too",)


def test_settings_of_an_ai_platform_job_are_shown() -> None:
    spec = {"jobId": "x", "trainingInput": {"region": "r", "serviceAccount": "evil", "workerConfig": {"imageUri": "e"}}}
    assert effects("CAIP", a_job(platform="CAIP", spec=spec)) == (
        "trainingInput.serviceAccount: evil",
        'trainingInput.workerConfig: {"imageUri": "e"}',
    )


def test_options_that_cannot_be_read_are_reported(add_job: AddJob, context: ScreenContext) -> None:
    add_job({"command": "docker run", "container": 3}, user="mei")
    assert call(context, *RESUBMIT, "--dry_run") == 0
    assert "[malformed-job-spec]" in context.err
