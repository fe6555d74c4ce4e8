"""What several tests of the store use."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

from sqlalchemy import create_engine

from caliban.records import GroupRecord, JsonObject
from caliban.reporter import Progress
from caliban.store.database import Store
from caliban.store.queries import experiments_of_flag_sets
from tests.databases import empty_store

PEER_STORES = Path(__file__).parent.parent / "data" / "peer_stores"

Statements = Callable[[], AbstractContextManager[list[str]]]
"""Collects the statements that are sent within a block."""

_PEER_TABLES = ("container_specs", "experiment_groups", "experiments", "job_specs", "jobs")

SPEC: JsonObject = {"build_path": "/home/mei/cpu", "job_mode": "CPU"}


class HeardReporter:
    """Keeps what a person would have read."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        raise AssertionError(f"the store has nothing to warn about: {line}")

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("the store runs no jobs")

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        raise AssertionError("the store shows no progress")


def add_experiments(store: Store, user: str, group: str, count: int, spec: JsonObject = SPEC) -> GroupRecord:
    """Make ``count`` experiments that differ in one flag."""
    with store.writing() as session:
        return experiments_of_flag_sets(
            session, parse_details,
            user=user,
            group=group,
            container_spec=spec,
            flag_sets=[(("--foo", "3"), {"sleep": number}) for number in range(count)],
        )


def peer_history(url: str) -> None:
    """Fill an empty store with the history of ``mixed.sqlite``, as caliban 0.4.2 left it."""
    if url.startswith("sqlite"):
        shutil.copy(PEER_STORES / "mixed.sqlite", url.removeprefix("sqlite:///"))
        return
    engine = create_engine(url)
    with engine.begin() as connection, closing(sqlite3.connect(PEER_STORES / "mixed.sqlite")) as source:
        connection.exec_driver_sql((PEER_STORES / "postgresql.sql").read_text())
        source.row_factory = sqlite3.Row
        for table in _PEER_TABLES:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY id"):
                names = ", ".join(f'"{name}"' for name in row.keys())  # noqa: SIM118 - a Row iterates over values
                places = ", ".join(["%s"] * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row))
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            )
    engine.dispose()


def upgraded_peer_history(url: str) -> None:
    """Fill an empty store with the history of ``mixed.sqlite``, and upgrade it to this version."""
    peer_history(url)
    empty_store(url)
