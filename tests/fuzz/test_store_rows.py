"""Arbitrary values in every column of the store, of caliban 0.4.2's tables and of ours: results or errors of ours."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from caliban.errors import CalibanError
from caliban.images.spec import parse_container_spec
from caliban.platforms import registry
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, JobStatus, JsonObject, PlatformId
from caliban.store.database import Store
from caliban.submission.setup import make_platforms
from tests.builders import CREATED, IMAGE, add_group, leave_open
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fakes import RecordingReporter
from tests.sampling import examples

PLATFORMS: dict[PlatformId, tuple[JsonObject, JsonObject]] = {
    "LOCAL": ({"command": ["docker", "run", IMAGE, "--foo"], "container": IMAGE}, {"ret_code": 1, "name": "caliban-1"}),
    "CAIP": (
        {"jobId": "a_1", "labels": {}, "trainingInput": {"masterConfig": {"imageUri": "gcr.io/p/i"}, "region": "r"}},
        {"jobId": "a_1", "project_id": "p"},
    ),
    "VERTEX": (
        {"displayName": "a_1", "jobSpec": {"workerPoolSpecs": [{"containerSpec": {"imageUri": "i", "args": []}}]}},
        {"project_id": "p", "region": "us-central1", "name": "projects/1/locations/us-central1/customJobs/2"},
    ),
    "GKE": (
        {"template": {"spec": {"containers": [{"name": "a", "image": "i", "args": []}]}}},
        {"cluster_name": "c", "cluster_zone": "z", "project_id": "p", "job": {"metadata": {"name": "a", "uid": "u"}}},
    ),
    "KUBERNETES": (
        {"template": {"spec": {"containers": [{"name": "a", "image": "i", "args": []}]}}},
        {"context": "c", "job": {"metadata": {"name": "a", "uid": "u", "namespace": "n"}}, "reason": "OOMKilled"},
    ),
    "MAINFRAME": ({}, {}),
}
"""A spec and details of each platform, and of one that is not installed."""

TARGETS: dict[PlatformId, JsonObject] = {
    "CAIP": {"project": "p"},
    "VERTEX": {"project": "p", "region": "us-central1"},
    "GKE": {"project": "p", "location": "us-central1", "cluster": "c", "namespace": "n"},
    "KUBERNETES": {"context": "c", "namespace": "n"},
}
"""Where an interrupted submission went."""

TABLES = ("container_specs", "experiment_groups", "experiments", "job_specs", "jobs", "submissions", "batches")
COMMANDS = (
    ("status", "--max_jobs", "0"),
    ("stop", "--dry_run"),
    ("resubmit", "--dry_run", "--xgroup", "GKE"),
    ("resubmit", "--xgroup", "LOCAL"),
    ("status", "--max_jobs", "0", "--json"),
    ("groups", "--json"),
)
"""Commands that read everything, that write, and that look inside of specs."""
MORE_COMMANDS = (
    ("status", "--xgroup", "LOCAL"),
    ("stop", "--yes", "--xgroup", "LOCAL"),
    ("stop", "--dry_run", "--json"),
    ("status", "--history", "--xgroup", "VERTEX", "--json"),
    ("logs", "--xgroup", "KUBERNETES", "--attempt", "-1", "--json"),
    ("resubmit", "--xgroup", "LOCAL", "--json"),
    ("abandon", "--dry_run", "--json", "--xgroup", "GKE"),
    ("resubmit", "--dry_run", "--all_jobs", "--json", "--xgroup", "LOCAL"),
    *(("resubmit", "--dry_run", "--xgroup", platform) for platform in PLATFORMS),
    ("resubmit", "--dry_run", "--all_jobs", "--xgroup", "CAIP", "--platform", "vertex"),
)

DEEP = "[" * 900 + "]" * 900
TOO_DEEP = "[" * 100_000
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["", "\x1b[2J", "\u202e", "\ud800", "x" * 10_000, "2020-13-45T99:99:99Z", "../../etc", "%s{}"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=12,
)
TEXTS = st.sampled_from(
    ["", "null", "{}", "[]", "{", "NaN", "[NaN, 1e999]", '"\\ud800"', "1" * 5000, DEEP, TOO_DEEP, "\x00", "\x1b[31m"]
)
SQL_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=20),
    TEXTS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["2020-05-29 10:53:40.000000", "0000-00-00", "9999-12-31 23:59:59", "20:20", "RUNNING", "done"]),
    JSON_VALUES.map(lambda value: json.dumps(value)),
)


@pytest.fixture
def seeded(store: Store, home: Path) -> bytes:
    """The file of a store with jobs of every platform in every state, and an interrupted submission."""
    for platform, (spec, details) in PLATFORMS.items():
        states = (JobStatus.FAILED, JobStatus.RUNNING, None, JobStatus.SUCCEEDED)
        group = add_group(store, *states, name=platform, platform=platform, job_spec=spec, details=details)
        left = leave_open(store, group.experiments[0], token=f"0123{platform:>12}", pid=2**22 + 1, platform=platform)
        with store.writing() as session:
            target = json.dumps(TARGETS.get(platform, {}))
            session.execute(
                text("UPDATE submissions SET target = :target WHERE id = :id"), {"target": target, "id": left.id}
            )
    with store.writing() as session:
        session.execute(text("UPDATE submissions SET sent = (SELECT min(opened) FROM batches) WHERE platform = 'GKE'"))
    store.close()
    return (home / ".caliban" / "caliban.db").read_bytes()


def columns(file: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(file) as connection:
        return [(table, row[1]) for table in TABLES for row in connection.execute(f"PRAGMA table_info({table})")]


@pytest.fixture
def offline(no_google_login: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No service can be reached, and nothing is waited for."""
    monkeypatch.setenv("PATH", "/nowhere")


def run_all(make_context: MakeContext, changed: str, commands: Sequence[Sequence[str]] = COMMANDS) -> None:
    """Run commands; a failed assertion shows which value they stumbled over."""
    for words in commands:
        context = make_context("n\n")
        context = _without_services(context)
        try:
            assert call(context, *words) in (0, 1)
        except CalibanError as error:
            context.console.error(error)
        except (Exception, KeyboardInterrupt) as error:
            raise AssertionError(f"{' '.join(words)}, after {changed}: {type(error).__name__}: {error}") from error
        shown = (context.out + context.err).split("\n")
        assert [line for line in shown if not line.isprintable()] == [], changed


def _without_services(context: ScreenContext) -> ScreenContext:
    environ = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "KUBECONFIG": "/nowhere/config", "HOME": str(context.home)}
    vars(context)["environ"] = environ
    return context


@given(data=st.data())
@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_commands_survive_any_value_in_any_column(
    data: st.DataObject, seeded: bytes, offline: None, home: Path, make_context: MakeContext
) -> None:
    file = home / ".caliban" / "caliban.db"
    file.write_bytes(seeded)
    table, column = data.draw(st.sampled_from(columns(file)))
    value = data.draw(SQL_VALUES)
    change(file, table, column, value)
    run_all(make_context, f"{table}.{column} = {value!r}"[:300], data.draw(st.sampled_from([COMMANDS, MORE_COMMANDS])))


def change(file: Path, table: str, column: str, value: object) -> None:
    """Write a value to a column of all rows where that is possible, else of the first one."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for rows in ("", " WHERE id = (SELECT min(id) FROM {table})"):
            try:
                connection.execute(f'UPDATE {table} SET "{column}" = ?{rows.format(table=table)}', (value,))
            except sqlite3.IntegrityError:
                continue
            return


HOSTILE = (TOO_DEEP, DEEP, "{", "NaN", b"\xff", "\x00", 2**62, -1, "2020", float("inf"), "\x1b]0;x\x07\u202e\n")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_read_with_a_hostile_value(
    table: str, seeded: bytes, offline: None, home: Path, make_context: MakeContext
) -> None:
    """Which one is a matter of the column, so that each is tried somewhere in little time."""
    file = home / ".caliban" / "caliban.db"
    file.write_bytes(seeded)
    for number, (_, column) in enumerate(each for each in columns(file) if each[0] == table):
        value = HOSTILE[(number + len(table)) % len(HOSTILE)]
        file.write_bytes(seeded)
        change(file, table, column, value)
        run_all(make_context, f"{table}.{column} = {value!r}"[:300])


def a_record(platform: PlatformId, status: JobStatus, spec: JsonObject, details: JsonObject) -> JobRecord:
    parsed = registry.parse_details(platform, status, details)
    return JobRecord(1, platform, 1, spec, IMAGE, status, parsed, CREATED)


def mutated(value: object) -> st.SearchStrategy[Any]:
    """Return values of the same shape, in which some parts are replaced by anything."""
    anything = JSON_VALUES
    if isinstance(value, dict):
        return st.one_of(st.fixed_dictionaries({key: mutated(each) for key, each in value.items()}), anything)
    if isinstance(value, list):
        return st.one_of(st.tuples(*map(mutated, value)).map(list), anything)
    return st.one_of(st.just(value), st.just(value), anything)


@pytest.mark.parametrize("platform", [name for name in PLATFORMS if name != "MAINFRAME"])
def test_a_platform_reads_any_details_and_any_spec(platform: PlatformId) -> None:
    platforms: Platforms = make_platforms({}, Path("/nowhere"), RecordingReporter())
    spec, details = PLATFORMS[platform]

    @given(mutated(spec), mutated(details), st.sampled_from(JobStatus))
    @example({}, {}, JobStatus.UNKNOWN)
    @settings(max_examples=examples(150))
    def check(spec: object, details: object, status: JobStatus) -> None:
        as_objects = [each if isinstance(each, dict) else {} for each in (spec, details)]
        job = a_record(platform, status, *as_objects)
        used = platforms.get(platform)
        calls: tuple[Callable[[], object], ...] = (
            lambda: used.with_image(job.spec, "i"),
            lambda: used.with_arguments(job.spec, "i", ["--foo"]),
            lambda: used.job_name(job.spec, "0123456789abcdef"),
            lambda: used.effects(job),
        )
        for each in calls:
            try:
                each()
            except CalibanError:
                continue

    check()


CONTAINER: JsonObject = {
    "build_path": "/nowhere",
    "extra_dirs": ["a"],
    "job_mode": "CPU",
    "package": [["python"], ".", "cpu.py", None],
    "caliban_config": {"base_image": "python:3.12", "apt_packages": ["git"], "registry": "localhost:5000/x"},
    "setup_extras": ["dev"],
    "requirements_path": "requirements.txt",
}


@given(st.one_of(mutated(CONTAINER), mutated({"image_id": "lab:1"})))
@settings(max_examples=examples(300))
def test_any_container_spec_is_read_or_refused(spec: object) -> None:
    try:
        parse_container_spec(spec if isinstance(spec, dict) else {})
    except CalibanError:
        return
