"""Experiments that were made from others by changing parameters, and experiments by their command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, null, select
from sqlalchemy.orm import Session

from caliban.clock import Clock
from caliban.records import ExperimentRecord, JobDetails, JobStatus, JsonObject, PlatformId
from caliban.store.locks import lock_group
from caliban.store.models import (
    HAS_ORIGINS,
    ContainerSpecRow,
    ExperimentGroupRow,
    ExperimentOriginRow,
    ExperimentRow,
)
from caliban.store.submissions import utc_now
from caliban.store.views import canonical, experiments_of


class ExperimentIndex:
    """Finds experiments of a group by container spec and command line, however the flags are divided in the record."""

    def __init__(self, experiments: Iterable[ExperimentRecord]) -> None:
        self._containers: dict[int, str] = {}
        self._found: dict[object, list[ExperimentRecord]] = {}
        for experiment in experiments:
            self._found.setdefault(self.key(experiment), []).append(experiment)

    def key(self, experiment: ExperimentRecord) -> object:
        """Return what is equal for experiments that run the same."""
        container = experiment.container
        if container.id not in self._containers:
            self._containers[container.id] = canonical(container.spec)
        return self._containers[container.id], experiment.arguments

    def find(self, wanted: ExperimentRecord) -> ExperimentRecord | None:
        """Return the experiment that runs the same; of several, one with equal flags, else the oldest."""
        found = self._found.get(self.key(wanted), [])
        return next((each for each in found if _is_equal(each, wanted)), found[0] if found else None)


def _is_equal(one: ExperimentRecord, other: ExperimentRecord) -> bool:
    return one.args == other.args and canonical(one.kwargs) == canonical(other.kwargs)


def has_origins(session: Session) -> bool:
    """Return whether the store of a session has the table."""
    return bool(session.info.get(HAS_ORIGINS, True))


def origin_column(session: Session) -> ColumnElement[Any]:
    """Return the column of an experiment's origin, for a statement on a store that may not have the table."""
    return (ExperimentOriginRow.origin_id if has_origins(session) else null()).label("origin_id")


def record_derived(
    session: Session, experiments: Sequence[ExperimentRecord], *, user: str, group: str, clock: Clock
) -> list[int]:
    """Return the ids of experiments that were made from others; those that do not exist are created and linked to them.

    Two commands that make the same experiment get the same one. At most seven statements for any number.

    Args:
        session: of a writing transaction.
        experiments: what is wanted, in one group, each with its origin; their own ids count for nothing.
        user: whose group it is.
        group: its name.
        clock: of this machine.
    """
    lock_group(session, user, group)
    index = ExperimentIndex(_experiments(session, user, group))
    missing: dict[object, ExperimentRecord] = {}
    for each in experiments:
        if index.find(each) is None:
            missing.setdefault(index.key(each), each)
    if missing:
        _add(session, list(missing.values()), _groups_of(session, user, group), clock)
        index = ExperimentIndex(_experiments(session, user, group))
        _link(session, list(missing.values()), index, clock)
    return [_recorded(index, each).id for each in experiments]


def _recorded(index: ExperimentIndex, wanted: ExperimentRecord) -> ExperimentRecord:
    found = index.find(wanted)
    assert found is not None
    return found


def _experiments(session: Session, user: str, group: str) -> tuple[ExperimentRecord, ...]:
    statement = (
        select(
            ExperimentRow.id.label("experiment_id"),
            ExperimentRow.args,
            ExperimentRow.kwargs,
            ContainerSpecRow.id.label("container_id"),
            ContainerSpecRow.spec.label("container_spec"),
            ExperimentOriginRow.origin_id,
            null().label("job_id"),
        )
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .outerjoin(ContainerSpecRow, ContainerSpecRow.id == ExperimentRow.container_spec_id)
        .outerjoin(ExperimentOriginRow, ExperimentOriginRow.experiment_id == ExperimentRow.id)
        .where(is_group(user, group))
        .order_by(ExperimentRow.id)
    )
    return experiments_of(session.execute(statement), _no_jobs)


def _no_jobs(platform: PlatformId, status: JobStatus, details: JsonObject) -> JobDetails:
    raise AssertionError("the statement reads no jobs")


def _add(
    session: Session, experiments: Sequence[ExperimentRecord], groups: Mapping[int, int | None], clock: Clock
) -> None:
    """Add the rows of experiments, in the groups and with the container specs of their origins."""
    rows = [
        {
            "xgroup_id": groups.get(each.origin or 0),
            "container_spec_id": each.container.id or None,
            "args": list(each.args),
            "kwargs": dict(each.kwargs),
            "created": clock.now(),
        }
        for each in experiments
    ]
    session.execute(insert(ExperimentRow), rows)


def _groups_of(session: Session, user: str, group: str) -> dict[int, int | None]:
    """Return the group of each experiment: groups of the same name count as one, and may be several rows."""
    statement = (
        select(ExperimentRow.id, ExperimentRow.xgroup_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(is_group(user, group))
    )
    return {row.id: row.xgroup_id for row in session.execute(statement)}


def is_group(user: str, group: str) -> ColumnElement[bool]:
    """Return the condition for the rows of a user's group: several of the same name count as one."""
    return and_(ExperimentGroupRow.user == user, ExperimentGroupRow.name == group)


def _link(session: Session, experiments: Sequence[ExperimentRecord], index: ExperimentIndex, clock: Clock) -> None:
    created = session.scalar(select(utc_now(session, clock)))
    rows = [
        {"experiment_id": _recorded(index, each).id, "origin_id": each.origin, "created": created}
        for each in experiments
    ]
    session.execute(insert(ExperimentOriginRow), rows)
