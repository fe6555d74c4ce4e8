"""Convert rows of the store to records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from caliban.errors import StoreError
from caliban.records import (
    ContainerRecord,
    ExperimentRecord,
    GroupRecord,
    JobRecord,
    JobStatus,
    JsonObject,
    OutputError,
    ParseDetails,
)
from caliban.store.models import (
    ContainerSpecRow,
    ExperimentGroupRow,
    ExperimentRow,
    JobRow,
    JobSpecRow,
)

TREE_COLUMNS = (
    ExperimentGroupRow.id.label("group_id"),
    ExperimentGroupRow.name.label("group_name"),
    ExperimentRow.id.label("experiment_id"),
    ExperimentRow.args,
    ExperimentRow.kwargs,
    ContainerSpecRow.id.label("container_id"),
    ContainerSpecRow.spec.label("container_spec"),
    JobRow.id.label("job_id"),
    JobRow.container,
    JobRow.status,
    JobRow.details,
    JobRow.created,
    JobRow.user.label("job_user"),
    JobSpecRow.id.label("spec_id"),
    JobSpecRow.spec.label("job_spec"),
    JobSpecRow.platform,
)
"""The columns of :func:`experiments_of`: one row per job, or one for an experiment or group without jobs.

Those of :func:`error_from` and ``origin_id`` come from other tables, where the store has them.
"""

TreeRow = Any
"""A row of SQLAlchemy; its attributes have the names of the columns above."""


def canonical(value: object) -> str:
    """Return the same text for equal JSON values, whatever the order of keys. ``1``, ``1.0`` and ``true`` differ."""
    try:
        return json.dumps(value, sort_keys=True, default=dict)
    except RecursionError:
        raise _damaged("a JSON value is nested too deeply") from None


def json_object(value: object) -> JsonObject:
    """Return the JSON object of a column; ``{}`` for null and for anything that is not an object."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return the text of a column; SQLite stores a value of any type in any column, whatever the table declares."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def integer(value: object) -> int:
    """Return the integer of a column; 0 for anything else, for numbers that are only shown."""
    return value if isinstance(value, int) else 0


def error_from(row: TreeRow) -> OutputError | None:
    """Read the columns of the last error in an output; None where no error is recorded."""
    if row.error_type is None and row.error_message is None:
        return None
    found = (row.error_type, row.error_message, row.error_frame)
    kind, message, frame = (None if value is None else text(value) for value in found)
    return OutputError(kind or None, message or "", frame or None)


def groups_of(rows: Iterable[TreeRow], parse: ParseDetails) -> list[GroupRecord]:
    """Group rows that are ordered by group, experiment and job."""
    by_group: dict[int, list[TreeRow]] = {}
    for row in rows:
        by_group.setdefault(row.group_id, []).append(row)
    return [
        GroupRecord(key, text(found[0].group_name or ""), experiments_of(found, parse))
        for key, found in by_group.items()
    ]


def experiments_of(rows: Iterable[TreeRow], parse: ParseDetails) -> tuple[ExperimentRecord, ...]:
    """Group rows that are ordered by experiment and job; those of no experiment are left out."""
    by_experiment: dict[int, list[TreeRow]] = {}
    for row in rows:
        if row.experiment_id is not None:
            by_experiment.setdefault(row.experiment_id, []).append(row)
    return tuple(_experiment(found, parse) for found in by_experiment.values())


def _experiment(rows: Sequence[TreeRow], parse: ParseDetails) -> ExperimentRecord:
    first = rows[0]
    if not isinstance(first.args, list | None):
        raise _damaged(f"the arguments of experiment {first.experiment_id} are not a list")
    return ExperimentRecord(
        id=first.experiment_id,
        args=tuple(str(arg) for arg in first.args or ()),
        kwargs=json_object(first.kwargs),
        # kept without a container spec too: building from it reports what is missing
        container=ContainerRecord(first.container_id or 0, json_object(first.container_spec)),
        jobs=tuple(_job(row, parse) for row in rows if row.job_id is not None),
        origin=first.origin_id,
    )


def _job(row: TreeRow, parse: ParseDetails) -> JobRecord:
    if row.platform is None:
        raise _damaged(f"job {row.job_id} has no job spec")
    status = row.status or JobStatus.UNKNOWN
    platform = text(row.platform)
    return JobRecord(
        id=row.job_id,
        platform=platform,
        spec_id=row.spec_id,
        spec=json_object(row.job_spec),
        container=text(row.container),
        status=status,
        details=parse(platform, status, json_object(row.details)),
        created=row.created,
        user=None if row.job_user is None else text(row.job_user),
        output_error=error_from(row),
        output_missing_since=row.output_missing_since,
    )


def _damaged(what: str) -> StoreError:
    return StoreError(
        "store-malformed-value",
        "the experiment store contains an invalid row",
        cause=what,
        hint="correct that row, or restore the store from a backup",
    )
