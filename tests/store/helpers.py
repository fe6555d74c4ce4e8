"""What several tests of the store use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from caliban.records import GroupRecord, JsonObject
from caliban.reporter import Progress
from caliban.store.database import Store
from caliban.store.queries import experiments_of_flag_sets

PEER_STORES = Path(__file__).parent.parent / "data" / "peer_stores"

Statements = Callable[[], AbstractContextManager[list[str]]]
"""Collects the statements that are sent within a block."""

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
