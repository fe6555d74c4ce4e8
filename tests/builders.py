"""Build records and rows with defaults for what a test does not care about."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from caliban.attempts import Owner, Submission, SubmissionState
from caliban.clock import SystemClock
from caliban.config import ProjectConfig
from caliban.images.package import Package
from caliban.images.spec import BuildSpec
from caliban.platforms import registry
from caliban.records import (
    ContainerRecord,
    ExperimentRecord,
    GroupRecord,
    JobDetails,
    JobMode,
    JobRecord,
    JobStatus,
    JsonObject,
    PlatformId,
)
from caliban.store.database import Store
from caliban.store.models import BatchRow, JobRow, JobSpecRow, SubmissionRow
from caliban.store.owner import _state_and_start, this_process, to_text
from caliban.store.queries import experiments_of_flag_sets, group_attempts
from caliban.store.submissions import select_submissions, submission_from
from tests.fake_service import fake_details

IMAGE = "sha256:" + "ab" * 32
SHORT_IMAGE = "sha256:" + "ab" * 6
"""As it is shown."""
OTHER_IMAGE = "sha256:" + "cd" * 32
GROUP = "resubmit_test"
CREATED = datetime(2020, 5, 29, 10, 53, 40)
CPU_SPEC: JsonObject = {
    "build_path": "/home/totoro/sw/cluster/caliban/tmp/cpu",
    "extra_dirs": None,
    "job_mode": "CPU",
    "package": [["python"], ".", "cpu.py", None],
}
CONTAINER = ContainerRecord(1, CPU_SPEC)
BUILD = BuildSpec(Path("/srv/cpu"), Package(("python",), ".", "cpu.py"), JobMode.CPU, ProjectConfig())
"""An image to build; the directory does not exist."""


def build_for(registry: str | None) -> BuildSpec:
    """Return an image to build in a project that configures a registry."""
    return replace(BUILD, config=ProjectConfig(registry=registry))


def parse_details(platform: PlatformId, status: JobStatus, raw: JsonObject) -> JobDetails:
    """Parse stored details as the platform does; those of TEST as the fake platform does."""
    return fake_details(status, raw) if platform == "TEST" else registry.parse_details(platform, status, raw)


def a_submission(**changes: Any) -> Submission:
    """Return a submission of this process that the service has not answered."""
    plain = Submission(
        id=1,
        token="0123456789abcdef",
        experiment_id=38,
        group=GROUP,
        job_spec_id=1,
        resubmits=None,
        platform="TEST",
        destination={},
        name="fake",
        user="totoro",
        host=socket.gethostname(),
        pid=os.getpid(),
        created=datetime.now(timezone.utc),
    )
    return replace(plain, **changes)


def a_job(
    id: int = 68,
    status: JobStatus = JobStatus.FAILED,
    *,
    platform: PlatformId = "TEST",
    details: JsonObject | None = None,
    spec: JsonObject | None = None,
    refresh_error: str | None = None,
) -> JobRecord:
    return JobRecord(
        id=id,
        platform=platform,
        spec_id=id,
        spec={"image": IMAGE, "arguments": []} if spec is None else spec,
        container=IMAGE,
        status=status,
        details=parse_details(platform, status, details or {}),
        created=CREATED,
        refresh_error=refresh_error,
    )


def an_experiment(
    id: int = 38,
    *jobs: JobRecord,
    args: Sequence[str] = ("--foo", "3"),
    kwargs: JsonObject | None = None,
    container: ContainerRecord = CONTAINER,
) -> ExperimentRecord:
    return ExperimentRecord(id, tuple(args), {"sleep": 1} if kwargs is None else kwargs, container, jobs)


def a_group(*experiments: ExperimentRecord, name: str = GROUP) -> GroupRecord:
    return GroupRecord(1, name, experiments)


def add_group(
    store: Store,
    *states: JobStatus | None,
    user: str = "totoro",
    name: str = GROUP,
    container_spec: JsonObject = CPU_SPEC,
    platform: PlatformId = "TEST",
    job_spec: JsonObject | None = None,
    details: JsonObject | None = None,
) -> GroupRecord:
    """Record one experiment for each of ``states``, with one job in that state; no job for None."""
    with store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            parse_details,
            user=user,
            group=name,
            container_spec=container_spec,
            flag_sets=[(("--foo", "3"), {"sleep": number}) for number in range(len(states))],
        )
        for experiment, status in zip(group.experiments, states, strict=True):
            if status is None:
                continue
            spec = {"image": IMAGE, "arguments": list(experiment.arguments)} if job_spec is None else dict(job_spec)
            row = JobSpecRow(experiment_id=experiment.id, platform=platform, spec=spec, created=CREATED)
            session.add(row)
            session.flush()
            session.execute(
                insert(JobRow).values(
                    created=CREATED,
                    job_spec_id=row.id,
                    experiment_id=experiment.id,
                    container=IMAGE,
                    status=status,
                    details={"name": f"fake-{experiment.id}"} if details is None else dict(details),
                    user=user,
                )
            )
    return read_group(store, user=user, name=name)


def read_group(store: Store, *, user: str = "totoro", name: str = GROUP, all_jobs: bool = False) -> GroupRecord:
    with store.reading() as session:
        group = group_attempts(session, parse_details, user, name, per_experiment=None if all_jobs else 1)
    assert group is not None
    return group


def latest_states(store: Store, *, name: str = GROUP) -> list[str]:
    """Return the state of the latest job of each experiment; ``-`` for one without a job."""
    return [
        str(experiment.latest.status) if experiment.latest else "-"
        for experiment in read_group(store, name=name).experiments
    ]


def submissions(store: Store) -> list[Submission]:
    with store.reading() as session:
        statement = select_submissions(session, SystemClock(), has_batches=True).order_by(SubmissionRow.id)
        return [submission_from(row) for row in session.execute(statement)]


def owner(pid: int | None = None) -> Owner:
    """Return a process of this machine; one that has ended if there is none of this id."""
    here = this_process()
    if pid is None or pid == here.pid:
        return here
    try:
        return replace(here, pid=pid, started=_state_and_start(pid)[1])
    except OSError:
        return replace(here, pid=pid, started=1)


def elsewhere(pid: int = 4711) -> Owner:
    """Return a process of another machine."""
    return Owner("the other machine", "its boot", "its namespaces", pid, 1)


def leave_open(
    store: Store,
    experiment: ExperimentRecord,
    *,
    token: str = "0123456789abcdef",
    host: str | None = None,
    pid: int | None = None,
    by: Owner | None = None,
    renewed: datetime | None = None,
    sent: bool = True,
    platform: PlatformId = "TEST",
) -> Submission:
    """Record a submission of another process, as it is before the platform answers.

    The process ``by``, by default that of this machine with the id ``pid``, last renewed it at ``renewed``.
    """
    with store.writing() as session:
        now = datetime.now(timezone.utc)
        batch = BatchRow(
            newest_job=0,
            owner=to_text(by or (owner(pid) if host is None else elsewhere(pid or 4711))),
            opened=renewed or now,
            renewals=0,
            renewed=renewed or now,
        )
        session.add(batch)
        session.flush()
        spec = JobSpecRow(
            experiment_id=experiment.id, platform=platform, spec={"image": IMAGE, "arguments": []}, created=CREATED
        )
        session.add(spec)
        session.flush()
        row = SubmissionRow(
            token=token,
            experiment_id=experiment.id,
            job_spec_id=spec.id,
            resubmits=None,
            platform=platform,
            target={},
            name=f"fake-{token}",
            user="totoro",
            host=host or socket.gethostname(),
            pid=os.getpid() if pid is None else pid,
            created=datetime.now(),
            state=SubmissionState.OPEN,
            batch_id=batch.id,
            sent=now if sent else None,
        )
        session.add(row)
    return submissions(store)[-1]
