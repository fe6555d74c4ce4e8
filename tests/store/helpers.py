"""Helpers of the tests of the store."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from alembic import command
from sqlalchemy import Connection, create_engine, inspect, text

from caliban.records import GroupRecord, JobDetails, JobStatus, JsonObject, PlatformId
from caliban.store.address import SqliteAddress, parse_address
from caliban.store.database import Store
from caliban.store.engines import begin_immediate, server_engine, sqlite_engine
from caliban.store.models import VERSION_TABLE
from caliban.store.queries import experiments_of_flag_sets, group_attempts
from caliban.store.upgrade import alembic_config
from tests.databases import empty_store

PEER_STORES = Path(__file__).parent.parent / "data" / "peer_stores"

PEER_TABLES = ("container_specs", "experiment_groups", "experiments", "job_specs", "jobs")
"""The tables of caliban 0.4.2, in the order that their foreign keys require."""

Statements = Callable[[], AbstractContextManager[list[str]]]
WhenReported = Callable[[Callable[[], object]], None]
"""Collects the statements that are sent within a block."""

SPEC: JsonObject = {"build_path": "/home/mei/cpu", "job_mode": "CPU"}


def keep_raw(platform: PlatformId, status: JobStatus, raw: JsonObject) -> JobDetails:
    """Parse no details: the store itself does not look into them."""
    return JobDetails(raw)


def read_group(store: Store, user: str, group: str, per_experiment: int | None = 1) -> GroupRecord:
    with store.reading() as session:
        found = group_attempts(session, keep_raw, user, group, per_experiment=per_experiment)
    assert found is not None
    return found


def add_experiments(store: Store, user: str, group: str, count: int, spec: JsonObject = SPEC) -> GroupRecord:
    """Create ``count`` experiments that differ in one flag."""
    with store.writing() as session:
        return experiments_of_flag_sets(
            session,
            keep_raw,
            user=user,
            group=group,
            container_spec=spec,
            flag_sets=[(("--foo", "3"), {"sleep": number}) for number in range(count)],
        )


def peer_history(url: str) -> None:
    """Fill a database with the rows of ``mixed.sqlite``, a store of caliban 0.4.2."""
    if url.startswith("sqlite"):
        shutil.copy(PEER_STORES / "mixed.sqlite", url.removeprefix("sqlite:///"))
        return
    engine = create_engine(url)
    with engine.begin() as connection, closing(sqlite3.connect(PEER_STORES / "mixed.sqlite")) as source:
        connection.exec_driver_sql((PEER_STORES / "postgresql.sql").read_text())
        source.row_factory = sqlite3.Row
        for table in PEER_TABLES:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY id"):
                names = ", ".join(f'"{name}"' for name in row.keys())  # noqa: SIM118 - a Row iterates over values
                places = ", ".join(["%s"] * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row))
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            )
    engine.dispose()


def upgraded_peer_history(url: str) -> None:
    """Fill a database with the rows of ``mixed.sqlite``, upgraded to this version."""
    peer_history(url)
    empty_store(url)


@contextmanager
def migrating(url: str) -> Iterator[Connection]:
    """Yield a connection in a transaction, set up as for an upgrade."""
    address = parse_address(url)
    engine = (
        begin_immediate(sqlite_engine(address.path, lambda: None, writable=True, foreign_keys=False))
        if isinstance(address, SqliteAddress)
        else server_engine(address, writable=True)
    )
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def migrate_up(url: str, revision: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch()
    with migrating(url) as connection:
        command.upgrade(alembic_config(connection), revision)


def migrate_down(url: str, revision: str) -> None:
    with migrating(url) as connection:
        command.downgrade(alembic_config(connection), revision)


def rows(url: str) -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of the tables of caliban 0.4.2."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table: [tuple(map(str, row)) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))]
            for table in PEER_TABLES
        }
    engine.dispose()
    return found


def shape(url: str) -> dict[str, list[str]]:
    """Return the columns of every table, with type and nullability."""
    engine = create_engine(url)
    tables = inspect(engine)
    found = {
        table: [f"{column['name']} {column['type']} {column['nullable']}" for column in tables.get_columns(table)]
        for table in tables.get_table_names()
        if table != VERSION_TABLE
    }
    engine.dispose()
    return found


def constraints(url: str) -> dict[str, list[str]]:
    """Return the keys, indexes and checks of every table, and the values of enum types."""
    engine = create_engine(url)
    tables = inspect(engine)
    found = {
        table: sorted(
            [
                *(f"{key['constrained_columns']} {key['referred_table']}" for key in tables.get_foreign_keys(table)),
                *(f"{index['name']} {index['column_names']} {index['unique']}" for index in tables.get_indexes(table)),
                *(f"unique {unique['column_names']}" for unique in tables.get_unique_constraints(table)),
                *(f"{check['sqltext']}" for check in tables.get_check_constraints(table)),
            ]
        )
        for table in tables.get_table_names()
        if table != VERSION_TABLE
    }
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            labels = text("SELECT enumlabel FROM pg_enum ORDER BY enumtypid::regtype::text, enumsortorder")
            found["enums"] = list(connection.scalars(labels))
    engine.dispose()
    return found
