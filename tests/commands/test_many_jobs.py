"""Listing 10,000 jobs: no platform is imported, and the number of statements does not depend on that of jobs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import insert

from caliban.cli.documents import encoded_parts, status_document
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Access, open_store
from caliban.store.models import JobRow, JobSpecRow
from caliban.store.queries import experiments_of_flag_sets, group_counts
from caliban.submission.groups import read_group, read_recent
from tests.builders import CPU_SPEC, CREATED, GROUP, IMAGE, a_group, a_job, an_experiment, parse_details
from tests.conftest import Caliban
from tests.databases import SqliteFiles, sent_statements
from tests.fakes import RecordingReporter
from tests.sampling import examples

JOBS = examples(10_000)
LISTED = examples(2000)
"""Jobs that most of the commands list: more than old versions of SQLite allow parameters in a statement."""

METADATA = {"name": "lab-1", "namespace": "default", "uid": "6f1c5a5e"}
DETAILS: dict[str, JsonObject] = {
    "LOCAL": {"name": "lab-1", "container_id": "c0ffee", "ret_code": 1},
    "CAIP": {"jobId": "lab_1", "project_id": "totoro-project", "errorMessage": "no machine was available"},
    "VERTEX": {"project_id": "totoro-project", "region": "us-central1", "name": "jobs/1", "displayName": "lab-1"},
    "GKE": {"cluster_name": "lab", "cluster_zone": "us-central1-a", "project_id": "p", "job": {"metadata": METADATA}},
    "KUBERNETES": {"context": "kind-lab", "job": {"metadata": METADATA}, "reason": "exit code 1"},
}
PLATFORMS = list(DETAILS)

PROGRAM = """
import sys
from caliban.main import main
sys.argv = ["caliban", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
HEAVY = ("docker", "google", "googleapiclient", "google_auth_httplib2", "kubernetes", "requests", "urllib3", "alembic")


def many_jobs(url: str) -> None:
    fill(url, JOBS)


def listed_jobs(url: str) -> None:
    fill(url, LISTED)


def fill(url: str, jobs: int) -> None:
    """Fill a store with a group of many experiments, one failed job each, on every platform in turn."""
    with open_store(url, Access.WRITE, RecordingReporter()) as store, store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            parse_details,
            user="totoro",
            group=GROUP,
            container_spec=CPU_SPEC,
            flag_sets=[((), {"sleep": number}) for number in range(jobs)],
        )
        rows = [(experiment.id, PLATFORMS[experiment.id % len(PLATFORMS)]) for experiment in group.experiments]
        session.execute(
            insert(JobSpecRow),
            [
                {"id": number, "experiment_id": number, "platform": platform, "spec": {}, "created": CREATED}
                for number, platform in rows
            ],
        )
        session.execute(
            insert(JobRow),
            [
                {
                    "id": number,
                    "created": CREATED,
                    "job_spec_id": number,
                    "experiment_id": number,
                    "container": IMAGE,
                    "status": JobStatus.FAILED,
                    "details": dict(DETAILS[platform]),
                    "user": "totoro",
                }
                for number, platform in rows
            ],
        )


@pytest.fixture
def many(home: Path, sqlite_files: SqliteFiles) -> str:
    """The URL of a store with many jobs, where commands look for it."""
    (home / ".caliban").mkdir()
    sqlite_files.copy(many_jobs, home / ".caliban" / "caliban.db")
    return f"sqlite:///{home}/.caliban/caliban.db"


@pytest.fixture
def to_list(home: Path, sqlite_files: SqliteFiles, jobs: int) -> None:
    """A store with so many jobs for a command to list, where commands look for it."""
    (home / ".caliban").mkdir()
    sqlite_files.copy(many_jobs if jobs == JOBS else listed_jobs, home / ".caliban" / "caliban.db")


def test_jobs_are_read_in_one_statement(many: str) -> None:
    with open_store(many, Access.READ, RecordingReporter()) as store, sent_statements() as sent:
        group = read_group(store, "totoro", GROUP)
        recent = read_recent(store, "totoro", None)
    assert len(sent) == 2
    for experiments in (group.experiments, recent[0].experiments):
        assert len(experiments) == JOBS
        assert all(each.latest and each.latest.details.display_name for each in experiments)


def test_groups_are_counted_in_one_statement(many: str) -> None:
    with (
        open_store(many, Access.READ, RecordingReporter()) as store,
        sent_statements() as sent,
        store.reading() as session,
    ):
        [group] = group_counts(session, "totoro")
    assert (len(sent), group.counts) == (1, {"failed": JOBS})


def listed(run_caliban: Caliban, *arguments: str) -> tuple[str, set[str]]:
    """Run a command; return what it printed, and the modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=run_caliban.environment(),
        cwd=run_caliban.cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, set(done.stderr.splitlines())


def assert_light(imported: set[str]) -> None:
    """Check that no platform and no client library was imported."""
    assert {name for name in imported if name.partition(".")[0] in HEAVY} == set()
    packages = {name for name in imported if name.startswith("caliban.platforms.") and name.count(".") > 2}
    # how details are read, and identifiers spelled
    light = (".details", ".ends", ".failure_reasons", ".identifiers", ".names", ".state")
    assert {name for name in packages if not name.endswith(light)} == set()


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (("groups",), LISTED),
        (("status", "--xgroup", GROUP, "--history"), JOBS),
        (("status", "--xgroup", GROUP, "--state", "failed", "--since", "9999d"), JOBS),
        (("status", "--xgroup", GROUP), LISTED),
        (("status", "--max_jobs", "0"), LISTED),
        (("stop", "--dry_run", "--xgroup", GROUP), LISTED),
    ],
)
@pytest.mark.usefixtures("to_list")
def test_listing_jobs_imports_no_platform_and_no_client_library(
    arguments: tuple[str, ...], jobs: int, run_caliban: Caliban
) -> None:
    out, imported = listed(run_caliban, *arguments)
    assert len(re.findall(r"^    (?:attempt 1  )?job ", out, re.MULTILINE)) == (jobs if arguments[0] == "status" else 0)
    assert_light(imported)


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (("status", "--xgroup", GROUP, "--json"), LISTED),
        (("status", "--max_jobs", "0", "--json"), LISTED),
        (("status", "--history", "--max_jobs", "0", "--json"), JOBS),
    ],
)
@pytest.mark.usefixtures("to_list")
def test_a_document_of_many_jobs_imports_no_platform_and_no_client_library(
    arguments: tuple[str, ...], jobs: int, run_caliban: Caliban
) -> None:
    out, imported = listed(run_caliban, *arguments)
    [group] = json.loads(out)["groups"]
    assert [len(each["jobs"]) for each in group["experiments"]] == [1] * jobs
    assert_light(imported)


def peak(jobs: int) -> int:
    """Return the bytes that the document of a group needs at most."""
    experiments = [an_experiment(number, a_job(number), kwargs={"\U0001f600": number}) for number in range(jobs)]
    groups = [a_group(*experiments)]
    tracemalloc.start()
    try:
        for _ in encoded_parts(status_document("totoro", groups, ()), None):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_document_is_in_proportion_to_the_jobs() -> None:
    peak(10)  # what is made once
    few, many = peak(200), peak(1000)
    assert many < 6 * few
    assert many < 1000 * 20_000
