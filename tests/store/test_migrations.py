"""The migrations: from every earlier revision and caliban 0.4.2, up and down, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from caliban.attempts import FirstAttempt, Rerun
from caliban.records import JobDetails, JobStatus, NewJob
from caliban.store import upgrade as upgrading
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal, new_token
from caliban.store.models import REVISIONS, VERSION_TABLE, Base
from tests.databases import Databases, nothing
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter

from .helpers import (
    add_experiments,
    constraints,
    migrate_down,
    migrate_up,
    migrating,
    peer_history,
    read_group,
    rows,
    shape,
)

INSERT_JOB_SPEC = "INSERT INTO job_specs (created, spec, platform) VALUES ('2021-01-01 09:00:00', '{}', :platform)"
PLATFORMS = ("LOCAL", "CAIP", "GKE", "TEST", "VERTEX", "KUBERNETES")
UNKNOWN = "A_PLATFORM_THAT_ONLY_AN_INSTALLED_PACKAGE_PROVIDES"


def upgrade(url: str) -> None:
    open_store(url, Access.WRITE, RecordingReporter()).close()


def assert_models_match(url: str) -> None:
    with migrating(url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def insert_job_spec(url: str, platform: str) -> None:
    with migrating(url) as connection:
        connection.execute(text(INSERT_JOB_SPEC), {"platform": platform})


def platforms_in(url: str) -> list[str]:
    with migrating(url) as connection:
        return list(connection.scalars(text("SELECT CAST(platform AS VARCHAR) FROM job_specs ORDER BY id")))


def peer_history_at_0001(url: str) -> None:
    peer_history(url)
    migrate_up(url, "0001")


def peer_history_at_0002(url: str) -> None:
    peer_history(url)
    migrate_up(url, "0002")


def peer_history_at_0003(url: str) -> None:
    peer_history(url)
    migrate_up(url, "0003")


def peer_history_at_0004(url: str) -> None:
    peer_history(url)
    migrate_up(url, "0004")


def peer_history_at_0005(url: str) -> None:
    peer_history(url)
    migrate_up(url, "0005")


@pytest.fixture(
    params=[
        nothing,
        peer_history,
        peer_history_at_0001,
        peer_history_at_0002,
        peer_history_at_0003,
        peer_history_at_0004,
        peer_history_at_0005,
    ],
)
def earlier_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """A store to upgrade: one that does not exist yet, one of caliban 0.4.2, and that at each earlier revision."""
    with databases.database(request.param) as url:
        yield url


def test_the_supported_revisions_are_those_of_alembic() -> None:
    scripts = ScriptDirectory.from_config(upgrading.alembic_config(None))  # type: ignore[arg-type]  # not connected
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS


def test_the_models_match_an_upgraded_store(earlier_url: str) -> None:
    upgrade(earlier_url)
    assert_models_match(earlier_url)


def test_an_upgrade_keeps_every_row_of_the_peer(peer_url: str) -> None:
    before = rows(peer_url)
    upgrade(peer_url)
    assert rows(peer_url) == before


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_upgrade_from_an_earlier_revision_keeps_every_row(peer_url: str, revision: str) -> None:
    migrate_up(peer_url, revision)
    before = rows(peer_url)
    upgrade(peer_url)
    assert rows(peer_url) == before


def test_an_upgrade_keeps_the_submissions_of_revision_0002(url: str) -> None:
    upgrade(url)
    with open_store(url, Access.WRITE, RecordingReporter()) as store:
        experiment = add_experiments(store, "mei", "g", 1).experiments[0]
        journal = Journal(store)

        def open_submission(kind: FirstAttempt | Rerun) -> None:
            submission = journal.open(
                experiment_id=experiment.id,
                platform="VERTEX",
                spec={},
                destination=FakeDestination(),
                name="x",
                token=new_token(),
                kind=kind,
                user="mei",
            )
            if kind == FirstAttempt():
                journal.settle(submission, NewJob("x", JobStatus.FAILED, JobDetails({"error": "no quota"})))

        open_submission(FirstAttempt())
        open_submission(Rerun(1))
        before = journal.open_submissions("mei")
    migrate_down(url, "0002")
    upgrade(url)
    with open_store(url, Access.WRITE, RecordingReporter()) as store:
        after = Journal(store).open_submissions("mei")
        assert [replace(each, created=before[0].created) for each in after] == [replace(before[0], batch=None)]
        [job] = read_group(store, "mei", "g").experiments[0].jobs
    assert (len(before), job.platform, job.details.raw) == (1, "VERTEX", {"error": "no quota"})


def test_the_baseline_has_the_tables_of_the_peer_column_for_column(
    peer_url: str, make_empty: Callable[[], str]
) -> None:
    empty = make_empty()
    migrate_up(empty, "0001")
    assert shape(empty) == shape(peer_url)


@pytest.fixture
def make_empty(peer_url: str, tmp_path: Path) -> Callable[[], str]:
    """Creates an empty database of the same kind as ``peer_url``, which is not changed."""

    def make() -> str:
        if peer_url.startswith("sqlite"):
            return f"sqlite:///{tmp_path}/empty.db"
        admin = create_engine(peer_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE SCHEMA fresh"))
        admin.dispose()
        return f"{peer_url}?options=-csearch_path%3Dfresh"

    return make


def test_a_downgrade_restores_the_store_of_the_peer(peer_url: str) -> None:
    before = (rows(peer_url), shape(peer_url))
    upgrade(peer_url)
    migrate_down(peer_url, "base")
    assert (rows(peer_url), shape(peer_url)) == before


@pytest.mark.parametrize("revision", ["0001", "0002", "0004", "0005"])
def test_a_downgrade_restores_an_earlier_revision(peer_url: str, revision: str) -> None:
    migrate_up(peer_url, revision)
    before = (rows(peer_url), shape(peer_url), constraints(peer_url))
    upgrade(peer_url)
    migrate_down(peer_url, revision)
    assert (rows(peer_url), shape(peer_url), constraints(peer_url)) == before


def test_upgrade_and_downgrade_can_be_repeated(earlier_url: str) -> None:
    for _ in range(2):
        upgrade(earlier_url)
        migrate_down(earlier_url, "base")
    upgrade(earlier_url)
    assert_models_match(earlier_url)


@pytest.mark.parametrize("platform", [*PLATFORMS, UNKNOWN])
def test_a_job_spec_of_any_platform_can_be_recorded(peer_url: str, platform: str) -> None:
    upgrade(peer_url)
    insert_job_spec(peer_url, platform)
    assert platforms_in(peer_url)[-1] == platform


def test_a_submission_to_any_platform_can_be_recorded(url: str) -> None:
    with open_store(url, Access.WRITE, RecordingReporter()) as store:
        experiment = add_experiments(store, "mei", "g", 1).experiments[0]
        Journal(store).open(
            experiment_id=experiment.id,
            platform=UNKNOWN,
            spec={},
            destination=FakeDestination(),
            name="x",
            token=new_token(),
            kind=FirstAttempt(),
            user="mei",
        )
        assert [found.platform for found in Journal(store).open_submissions("mei")] == [UNKNOWN]


REFUSED = r"CHECK constraint|invalid input value"


def test_the_database_refuses_a_downgrade_with_a_job_of_an_unknown_platform(peer_url: str) -> None:
    upgrade(peer_url)
    insert_job_spec(peer_url, UNKNOWN)
    before = (rows(peer_url), shape(peer_url))
    with pytest.raises(Exception, match=REFUSED):
        migrate_down(peer_url, "0002")
    assert (rows(peer_url), shape(peer_url)) == before
    assert_models_match(peer_url)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_store_of_revision_0002_takes_the_platforms_of_that_time(peer_url: str, platform: str) -> None:
    upgrade(peer_url)
    insert_job_spec(peer_url, platform)
    migrate_down(peer_url, "0002")
    insert_job_spec(peer_url, platform)
    assert platforms_in(peer_url)[-2:] == [platform] * 2


@pytest.mark.parametrize(("revision", "platform"), [("0001", "VERTEX"), ("0002", UNKNOWN)])
def test_an_earlier_revision_refuses_newer_platforms(peer_url: str, revision: str, platform: str) -> None:
    upgrade(peer_url)
    migrate_down(peer_url, revision)
    with pytest.raises(Exception, match=REFUSED):
        insert_job_spec(peer_url, platform)


def test_ids_of_job_specs_continue_after_an_upgrade(peer_url: str) -> None:
    with migrating(peer_url) as connection:
        newest = connection.scalar(text("SELECT max(id) FROM job_specs"))
    upgrade(peer_url)
    insert_job_spec(peer_url, UNKNOWN)
    with migrating(peer_url) as connection:
        assert connection.scalar(text("SELECT max(id) FROM job_specs")) == newest + 1


def test_the_enum_type_of_the_peer_does_not_prevent_a_downgrade(postgresql_url: str) -> None:
    upgrade(postgresql_url)
    with migrating(postgresql_url) as connection:  # as caliban 0.4.2 does when it opens the store
        connection.execute(text("CREATE TYPE platform AS ENUM ('CAIP', 'GKE', 'LOCAL', 'TEST')"))
    migrate_down(postgresql_url, "0002")
    insert_job_spec(postgresql_url, "VERTEX")


def test_the_submissions_of_revision_0003_are_read_without_an_upgrade(url: str) -> None:
    upgrade(url)
    with open_store(url, Access.WRITE, RecordingReporter()) as store:
        add_experiments(store, "mei", "g", 1)
        opened = Journal(store).open(
            experiment_id=1,
            platform="LOCAL",
            spec={},
            destination=FakeDestination(),
            name="x",
            token=new_token(),
            kind=FirstAttempt(),
            user="mei",
        )
    migrate_down(url, "0003")
    with open_store(url, Access.READ, RecordingReporter()) as store:
        [found] = Journal(store).open_submissions("mei")
    assert (found.token, found.batch, found.may_have_been_sent) == (opened.token, None, True)
    assert abs(found.created - opened.created) < timedelta(seconds=10)
