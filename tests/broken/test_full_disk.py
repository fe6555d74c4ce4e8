"""A full disk and a read-only store are reported; nothing is sent that was not journaled."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from caliban.attempts import Submission, SubmissionState
from caliban.records import JobStatus, NewJob
from caliban.store.database import Store
from tests.builders import add_group, latest_states, submissions
from tests.calls import call
from tests.conftest import MakeContext, fake_platform
from tests.fake_service import FakeService
from tests.forkserver import ForkServer
from tests.standins.ml_v1 import MlV1
from tests.store.helpers import PEER_STORES

from .disks import FULL, READ_ONLY, STORE, Command, CommandResult

CLOUD = ("cloud", "--platform", "caip", "--xgroup", "g", "--nogpu", "--image_tag", "localhost:1/a:latest", "cpu.py")
RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes")
CREATE = "ml.projects.jobs.create"
Full = Callable[..., CommandResult]


@pytest.fixture
def service() -> Iterator[MlV1]:
    with MlV1() as running:
        yield running


@pytest.fixture
def command(home: Path, cwd: Path, tmp_path: Path, service: MlV1, fork_server: ForkServer) -> Command:
    skipped = ("DOCKER_HOST", "DOCKER_CONTEXT", "LOGNAME", "CALIBAN_USER", "PROJECT_ID")
    environ = {name: value for name, value in os.environ.items() if name not in skipped}
    environ.update(HOME=str(home), USER="totoro", CLOUDSDK_API_ENDPOINT_OVERRIDES_ML=service.url)
    environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(service.write_key_file(home / "key.json"))
    (cwd / "cpu.py").write_text("")
    (tmp_path / "store").mkdir()
    return Command(tmp_path / "store", cwd, environ, fork_server)


def assert_reported(result: CommandResult, *ids: str) -> None:
    assert (result.code, "Traceback" in result.err) == (1, False), result.err
    assert re.findall(r"\[(store-[a-z-]+)\]", result.err)[:1] in [[each] for each in ids], result.err
    assert "hint: " in result.err


@pytest.mark.parametrize("full", FULL)
def test_a_store_that_cannot_be_created_is_reported_and_created_later(
    command: Command, service: MlV1, full: Full
) -> None:
    assert_reported(full(command, 8192, *CLOUD), "store-upgrade-failed", "store-full", "store-disk-failed")
    assert service.bodies(CREATE) == []

    assert command(*CLOUD).code == 0
    assert len(service.bodies(CREATE)) == 1


@pytest.mark.parametrize("full", FULL)
@pytest.mark.parametrize("copies", [1, 2], ids=["no space for the backup", "no space for the upgrade"])
def test_an_upgrade_without_free_space_leaves_the_store_unchanged(
    command: Command, service: MlV1, full: Full, copies: int
) -> None:
    file = command.directory / STORE
    shutil.copy(PEER_STORES / "walkthrough_caip.sqlite", file)
    before = file.read_bytes()
    is_disk = full.__name__ == "on_small_disk"
    space = copies * len(before) + 4096 if is_disk else len(before) - (4096 if copies == 1 else 0)

    result = full(command, space, *RESUBMIT)

    assert_reported(result, "store-backup-failed" if copies == 1 else "store-upgrade-failed")
    assert file.read_bytes() == before
    assert [path.name for path in command.directory.iterdir()] == [STORE]


@pytest.mark.parametrize("full", FULL)
def test_a_submission_that_cannot_be_journaled_is_not_sent(command: Command, service: MlV1, full: Full) -> None:
    assert command(*CLOUD).code == 0
    size = (command.directory / STORE).stat().st_size

    assert_reported(
        full(command, size if full.__name__ == "on_small_disk" else 100, *CLOUD), "store-full", "store-disk-failed"
    )

    assert len(service.bodies(CREATE)) == 1
    with closing(sqlite3.connect(command.directory / STORE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT state FROM submissions").fetchall() == [("DONE",)]


@pytest.fixture
def limit() -> Iterator[Callable[[], None]]:
    """Limit the size of files; the second call removes the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    toggled = [(100, before[1]), before]
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, toggled.pop(0))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def fake() -> Iterator[FakeService]:
    """The platform TEST; ``service`` is AI Platform here."""
    with fake_platform("FakePlatform") as service:
        yield service


def test_a_job_accepted_when_the_disk_filled_up_is_recorded_by_the_next_command(
    store: Store,
    fake: FakeService,
    make_context: MakeContext,
    limit: Callable[[], None],
) -> None:
    add_group(store, JobStatus.FAILED, container_spec={"image_id": "lab:1"})

    def accept_and_fill(spec: dict[str, object], submission: Submission) -> NewJob:
        limit()
        return fake.accept(spec, submission)

    fake.expect("submit", accept_and_fill)
    full = make_context()
    code = call(full, *RESUBMIT)
    limit()

    assert (code, "[store-disk-failed]" in full.err) == (1, True)
    assert [row.state for row in submissions(store)] == [SubmissionState.OPEN]

    fake.expect("find", fake.look_up)
    fake.expect("statuses", lambda jobs: {})
    call(make_context(), *RESUBMIT)
    assert [row.state for row in submissions(store)] == [SubmissionState.DONE]
    assert (len(fake.jobs), latest_states(store)) == (1, ["SUBMITTED"])


def test_a_store_deleted_while_a_command_runs_is_reported(
    store: Store, fake: FakeService, make_context: MakeContext, home: Path
) -> None:
    add_group(store, JobStatus.FAILED, container_spec={"image_id": "lab:1"})

    def accept_and_delete(spec: dict[str, object], submission: Submission) -> NewJob:
        (home / ".caliban" / "caliban.db").unlink()
        return fake.accept(spec, submission)

    fake.expect("submit", accept_and_delete)
    context = make_context()
    code = call(context, *RESUBMIT)

    assert (code, "[store-gone]" in context.err) == (1, True), context.err


@pytest.mark.parametrize("part", [STORE, "."], ids=["file", "directory"])
@pytest.mark.parametrize("read_only", READ_ONLY)
def test_with_a_read_only_store_no_job_is_sent(
    command: Command, service: MlV1, read_only: Callable[..., CommandResult], part: str
) -> None:
    assert command(*CLOUD).code == 0

    result = read_only(command, command.directory / part, *CLOUD)

    assert_reported(result, "store-read-only", "store-no-permission")
    assert len(service.bodies(CREATE)) == 1


@pytest.mark.parametrize("read_only", READ_ONLY)
def test_status_with_a_read_only_store_shows_current_states_and_a_warning(
    command: Command, service: MlV1, read_only: Callable[..., CommandResult]
) -> None:
    assert command(*CLOUD).code == 0
    service.jobs.set_state(service.jobs.all()[0].id, "SUCCEEDED")

    result = read_only(command, command.directory, "status", "--xgroup", "g")

    assert (result.code, " SUCCEEDED " in result.out) == (0, True), result.err
    assert "warning: cannot record the states below" in result.err
