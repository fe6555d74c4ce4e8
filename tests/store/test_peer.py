"""caliban 0.4.2 can still read a store that this version has used."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import AdditionalAttempt
from caliban.clock import SystemClock
from caliban.records import JobDetails, JobStatus, JsonObject, NewJob, PlatformId
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal, new_token
from caliban.store.origins import record_derived
from caliban.store.queries import experiments_of_flag_sets, group_attempts
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter

from .helpers import PEER_STORES, keep_raw, migrate_down, rows, upgraded_peer_history

CONTAINER: JsonObject = {
    "adc_path": None,
    "build_path": "/home/mei/cpu",
    "caliban_config": {},
    "conda_env_path": None,
    "credentials_path": None,
    "extra_dirs": None,
    "job_mode": "CPU",
    "no_cache": False,
    "package": [["python"], ".", "cpu.py", None],
    "requirements_path": None,
    "setup_extras": None,
}


@pytest.fixture
def peer_file(tmp_path: Path) -> Path:
    file = tmp_path / "caliban.db"
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    return file


def _status_of_the_peer(executable: str, url: str, user: str, group: str, home: Path) -> str:
    home.mkdir()
    environ = {"CALIBAN_DB_URL": url, "USER": user, "LOGNAME": user, "HOME": str(home)}
    done = subprocess.run(
        [executable, "status", "--xgroup", group],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def _submit(file: Path, platform: PlatformId, spec: JsonObject, job: NewJob, group: str = "ours") -> int:
    with open_store(f"sqlite:///{file}", Access.WRITE, RecordingReporter()) as store:
        with store.writing() as session:
            made = experiments_of_flag_sets(
                session,
                keep_raw,
                user="mei",
                group=group,
                container_spec=CONTAINER,
                flag_sets=[(("--foo", "3"), {"sleep": 77})],
            )
        journal = Journal(store)
        submission = journal.open(
            experiment_id=made.experiments[0].id,
            platform=platform,
            spec=spec,
            destination=FakeDestination(),
            name="caliban_mei_1",
            token=new_token(),
            kind=AdditionalAttempt(),
            user="mei",
        )
        return journal.settle(submission, job).id


def test_the_peer_reads_its_own_rows_after_an_upgrade(peer_file: Path, peer_executable: str, tmp_path: Path) -> None:
    open_store(f"sqlite:///{peer_file}", Access.WRITE, RecordingReporter()).close()
    output = _status_of_the_peer(peer_executable, f"sqlite:///{peer_file}", "mei", "mixed", tmp_path / "home")
    assert "experiment id 9: cpu.py" in output
    assert "job 9 " in output


def test_the_peer_reads_our_rows(peer_file: Path, peer_executable: str, tmp_path: Path) -> None:
    image = "sha256:" + "cd" * 32
    spec = {"command": ["docker", "run", image, "--foo", "3", "--sleep", "77"], "container": image}
    job_id = _submit(peer_file, "LOCAL", spec, NewJob(image, JobStatus.FAILED, JobDetails({"ret_code": 1})))
    output = _status_of_the_peer(peer_executable, f"sqlite:///{peer_file}", "mei", "ours", tmp_path / "home")
    assert "cpu.py --foo 3 --sleep 77" in output
    assert f"job {job_id} " in output


def test_the_peer_reads_an_experiment_that_was_made_from_another(
    peer_file: Path, peer_executable: str, tmp_path: Path
) -> None:
    with open_store(f"sqlite:///{peer_file}", Access.WRITE, RecordingReporter()) as store:
        with store.reading() as session:
            group = group_attempts(session, keep_raw, "mei", "mixed", per_experiment=1)
        assert group is not None
        origin = group.experiments[-1]
        made = replace(origin, id=0, kwargs={**origin.kwargs, "seed": 11}, origin=origin.id)
        with store.writing() as session:
            [number] = record_derived(session, [made], user="mei", group="mixed", clock=SystemClock())
    output = _status_of_the_peer(peer_executable, f"sqlite:///{peer_file}", "mei", "mixed", tmp_path / "home")
    assert f"experiment id {number}: " in output
    assert "--seed 11" in output


CAIP_SPEC = {
    "jobId": "caliban_mei_1",
    "labels": {"job_name": "caliban_mei"},
    "trainingInput": {"masterConfig": {"imageUri": "gcr.io/p/x:latest"}, "region": "us-central1", "args": []},
}
GKE_SPEC = {"backoffLimit": 4, "template": {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x"}]}}}
CAIP_DETAILS: JsonObject = {"jobId": "caliban_mei_20260102_120000_1", "project_id": "p"}
GKE_DETAILS: JsonObject = {
    "cluster_name": "blueshift",
    "cluster_zone": "us-central1-a",
    "project_id": "p",
    "job": {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x-1", "namespace": "default"},
        "spec": GKE_SPEC,
        "status": {},
    },
}


@pytest.mark.parametrize(
    ("platform", "spec", "details"),
    [("CAIP", CAIP_SPEC, CAIP_DETAILS), ("GKE", GKE_SPEC, GKE_DETAILS)],
    ids=["CAIP", "GKE"],
)
def test_the_peer_reads_our_rows_of_its_cloud_platforms(
    peer_file: Path, peer_executable: str, platform: PlatformId, spec: JsonObject, details: JsonObject, tmp_path: Path
) -> None:
    # a final state: the peer would query Google for any other
    job_id = _submit(peer_file, platform, spec, NewJob("gcr.io/p/x:latest", JobStatus.SUCCEEDED, JobDetails(details)))
    output = _status_of_the_peer(peer_executable, f"sqlite:///{peer_file}", "mei", "ours", tmp_path / "home")
    assert f"job {job_id} " in output
    assert "SUCCEEDED" in output


def test_the_peer_reads_an_upgraded_store_on_postgresql_which_can_be_downgraded_afterwards(
    postgresql_url: str, peer_executable: str, tmp_path: Path
) -> None:
    upgraded_peer_history(postgresql_url)
    url = postgresql_url.replace("postgresql+psycopg", "postgresql")
    output = _status_of_the_peer(peer_executable, url, "mei", "mixed", tmp_path / "home")
    assert "job 9 " in output
    migrate_down(postgresql_url, "base")
    assert rows(postgresql_url)["jobs"]
