"""Query the store, in one statement each unless documented otherwise.

The queries work on a store that was never upgraded: beside the tables of caliban 0.4.2, only those of the output of
jobs and of the origins of experiments are used, where there are any. JSON values in the results may be shared between
records and must not be modified.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import FromClause, Select, func, insert, select
from sqlalchemy.orm import Session

from caliban.records import ExperimentRecord, GroupRecord, JobRecord, JsonObject, ParseDetails
from caliban.store.group_counts import group_counts_of
from caliban.store.job_logs import has_job_logs, job_columns
from caliban.store.locks import lock_group
from caliban.store.models import (
    ContainerSpecRow,
    ExperimentGroupRow,
    ExperimentOriginRow,
    ExperimentRow,
    JobLogRow,
    JobRow,
    JobSpecRow,
)
from caliban.store.origins import has_origins, is_group, origin_column
from caliban.store.views import TREE_COLUMNS, canonical, experiments_of, groups_of, text
from caliban.summary import GroupCounts

_Statement = TypeVar("_Statement", bound="Select[*tuple[Any, ...]]")

FlagSet = tuple[tuple[str, ...], JsonObject]
"""The positional arguments and the flags of one experiment."""


def find_group(session: Session, user: str, name: str) -> int | None:
    """Return the id of the user's group of that name, the oldest if there are several; None if there is none."""
    return session.scalar(select(func.min(ExperimentGroupRow.id)).where(is_group(user, name)))


def group_names(session: Session, user: str) -> list[str]:
    """Return the names of the user's groups, in the order in which they were created."""
    name = ExperimentGroupRow.name
    mine = (ExperimentGroupRow.user == user, name.is_not(None))
    statement = select(name).where(*mine).group_by(name).order_by(func.min(ExperimentGroupRow.id))
    return [text(found) for found in session.scalars(statement) if found is not None]


def group_counts(session: Session, user: str) -> list[GroupCounts]:
    """Count the experiments of each of the user's groups by the recorded state of their latest jobs.

    Returns:
        The groups, the one with the newest job last. Groups of the same name count as one.
    """
    latest = (
        select(JobRow.experiment_id.label("experiment_id"), func.max(JobRow.id).label("job_id"))
        .join(ExperimentRow, ExperimentRow.id == JobRow.experiment_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(ExperimentGroupRow.user == user, JobRow.job_spec_id.is_not(None))
        .group_by(JobRow.experiment_id)
        .subquery("latest")
    )
    statement = (
        select(
            ExperimentGroupRow.name,
            JobRow.status,
            JobRow.id.is_not(None).label("has_job"),
            func.count(ExperimentRow.id).label("experiments"),
            func.max(JobRow.created).label("last"),
            func.max(ExperimentGroupRow.created).label("created"),
            func.min(ExperimentGroupRow.id).label("group_id"),
        )
        .outerjoin(ExperimentRow, ExperimentRow.xgroup_id == ExperimentGroupRow.id)
        .outerjoin(latest, latest.c.experiment_id == ExperimentRow.id)
        .outerjoin(JobRow, JobRow.id == latest.c.job_id)
        .where(ExperimentGroupRow.user == user, ExperimentGroupRow.name.is_not(None))
        .group_by(ExperimentGroupRow.name, JobRow.status, JobRow.id.is_not(None))
    )
    return group_counts_of(session.execute(statement))


def group_attempts(
    session: Session, parse: ParseDetails, user: str, name: str, *, per_experiment: int | None
) -> GroupRecord | None:
    """Read a group with all its experiments and the newest attempts of each.

    Args:
        session: of the store.
        parse: reads the stored details of jobs.
        user: whose group it is.
        name: the group's name. Groups of one user with the same name count as one, with the id of the oldest.
        per_experiment: how many attempts of each experiment; None for all. The newest are those with the highest ids,
            as local clocks can go back.

    Returns:
        The experiments in the order of their ids, each with its attempts, oldest first; None when the user has no such
        group.
    """
    attempts = _newest_of_each(user, name, per_experiment)
    statement = (
        select(*TREE_COLUMNS, origin_column(session), *job_columns(session))
        .select_from(ExperimentGroupRow)
        .outerjoin(ExperimentRow, ExperimentRow.xgroup_id == ExperimentGroupRow.id)
        .outerjoin(ContainerSpecRow, ContainerSpecRow.id == ExperimentRow.container_spec_id)
        .outerjoin(attempts, attempts.c.experiment_id == ExperimentRow.id)
        .outerjoin(JobRow, JobRow.id == attempts.c.job_id)
        .outerjoin(JobSpecRow, JobSpecRow.id == JobRow.job_spec_id)
        .where(is_group(user, name))
        .order_by(ExperimentRow.id, JobRow.id)
    )
    rows = session.execute(_with_newer_tables(session, statement)).all()
    if not rows:
        return None
    return GroupRecord(min(row.group_id for row in rows), name, experiments_of(rows, parse))


def find_job(session: Session, parse: ParseDetails, job_id: int) -> JobRecord | None:
    """Return a job; None if there is none of this id."""
    statement = (
        select(*TREE_COLUMNS, origin_column(session), *job_columns(session))
        .select_from(JobRow)
        .join(JobSpecRow, JobSpecRow.id == JobRow.job_spec_id)
        .join(ExperimentRow, ExperimentRow.id == JobRow.experiment_id)
        .outerjoin(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .outerjoin(ContainerSpecRow, ContainerSpecRow.id == ExperimentRow.container_spec_id)
        .where(JobRow.id == job_id)
    )
    found = experiments_of(session.execute(_with_newer_tables(session, statement)), parse)
    return found[0].jobs[0] if found else None


def recent_attempts(session: Session, parse: ParseDetails, user: str, limit: int | None) -> list[GroupRecord]:
    """Return the user's newest ``limit`` jobs (None: all) in their groups and experiments, in the order of ids."""
    newest = (
        select(JobRow.id.label("job_id"))
        .join(JobSpecRow, JobSpecRow.id == JobRow.job_spec_id)
        .join(ExperimentRow, ExperimentRow.id == JobRow.experiment_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(JobRow.user == user)
        .order_by(JobRow.id.desc())
        .limit(limit)
        .subquery("newest")
    )
    statement = (
        select(*TREE_COLUMNS, origin_column(session), *job_columns(session))
        .select_from(newest)
        .join(JobRow, JobRow.id == newest.c.job_id)
        .join(JobSpecRow, JobSpecRow.id == JobRow.job_spec_id)
        .join(ExperimentRow, ExperimentRow.id == JobRow.experiment_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .outerjoin(ContainerSpecRow, ContainerSpecRow.id == ExperimentRow.container_spec_id)
        .order_by(ExperimentGroupRow.id, ExperimentRow.id, JobRow.id)
    )
    return groups_of(session.execute(_with_newer_tables(session, statement)), parse)


def experiments_of_flag_sets(
    session: Session,
    parse: ParseDetails,
    *,
    user: str,
    group: str,
    container_spec: JsonObject,
    flag_sets: Sequence[FlagSet],
) -> GroupRecord:
    """Return the experiments of these flag sets in a group; those that do not exist are created.

    The group and the container spec are created where they do not exist. The same user, group, container spec, args and
    kwargs are the same experiment; JSON is compared by value. At most eight statements for any number of flag sets.

    Args:
        session: of a writing transaction.
        parse: reads the stored details of jobs.
        user: whose group it is.
        group: the group's name.
        container_spec: of all of these experiments, as it is recorded.
        flag_sets: the arguments and flags of each; equal ones are one experiment.

    Returns:
        The group with these experiments, in the order of ``flag_sets``, each with its latest attempt if it has one.
    """
    lock_group(session, user, group)
    view = group_attempts(session, parse, user, group, per_experiment=1)
    group_id = view.id if view else _add_group(session, user, group)
    wanted: dict[str, FlagSet] = {}
    for args, kwargs in flag_sets:
        wanted.setdefault(flag_set_key(args, kwargs), (args, kwargs))
    known = _by_flag_set(view.experiments if view else (), container_spec)
    missing = [flag_set for key, flag_set in wanted.items() if key not in known]
    if missing:
        spec_id = _container_spec_id(session, user, container_spec)
        _add_experiments(session, group_id, spec_id, missing)
        view = group_attempts(session, parse, user, group, per_experiment=1)
        known = _by_flag_set(view.experiments if view else (), container_spec)
    return GroupRecord(group_id, group, tuple(known[key] for key in wanted))


def known_experiments(
    session: Session,
    parse: ParseDetails,
    *,
    user: str,
    group: str,
    container_spec: JsonObject,
    flag_sets: Sequence[FlagSet],
) -> dict[str, ExperimentRecord]:
    """Return those experiments that :func:`experiments_of_flag_sets` would not create, by :func:`flag_set_key`."""
    view = group_attempts(session, parse, user, group, per_experiment=1)
    known = _by_flag_set(view.experiments if view else (), container_spec)
    wanted = {flag_set_key(args, kwargs) for args, kwargs in flag_sets}
    return {key: experiment for key, experiment in known.items() if key in wanted}


def flag_set_key(args: Sequence[str], kwargs: JsonObject) -> str:
    """Return the same text for equal arguments and flags."""
    return canonical([list(args), kwargs])


def _with_newer_tables(session: Session, statement: _Statement) -> _Statement:
    if has_origins(session):
        statement = statement.outerjoin(ExperimentOriginRow, ExperimentOriginRow.experiment_id == ExperimentRow.id)
    return statement.outerjoin(JobLogRow, JobLogRow.job_id == JobRow.id) if has_job_logs(session) else statement


def _newest_of_each(user: str, name: str, per_experiment: int | None) -> FromClause:
    """Select pairs of job id and experiment id, so that the long JSON texts are not sorted."""
    age = func.row_number().over(partition_by=JobRow.experiment_id, order_by=JobRow.id.desc())
    attempts = (
        select(JobRow.id.label("job_id"), JobRow.experiment_id.label("experiment_id"), age.label("age"))
        .join(ExperimentRow, ExperimentRow.id == JobRow.experiment_id)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(is_group(user, name), JobRow.job_spec_id.is_not(None))
        .subquery("attempts")
    )
    if per_experiment is None:
        return attempts
    return select(attempts).where(attempts.c.age <= per_experiment).subquery("newest")


def _by_flag_set(experiments: Sequence[ExperimentRecord], container_spec: JsonObject) -> dict[str, ExperimentRecord]:
    container = canonical(container_spec)
    found: dict[str, ExperimentRecord] = {}
    same: dict[int, bool] = {}
    for experiment in experiments:
        recorded = experiment.container
        if recorded.id not in same:
            same[recorded.id] = canonical(recorded.spec) == container
        if same[recorded.id]:
            found.setdefault(flag_set_key(experiment.args, experiment.kwargs), experiment)
    return found


def _add_group(session: Session, user: str, name: str) -> int:
    row = ExperimentGroupRow(user=user, name=name, created=datetime.now())
    session.add(row)
    session.flush()
    return row.id


def _container_spec_id(session: Session, user: str, spec: JsonObject) -> int:
    wanted = canonical(spec)
    statement = select(ContainerSpecRow.id, ContainerSpecRow.spec).where(ContainerSpecRow.user == user)
    for spec_id, recorded in session.execute(statement):
        if canonical(recorded) == wanted:
            return spec_id
    row = ContainerSpecRow(user=user, spec=dict(spec), created=datetime.now())
    session.add(row)
    session.flush()
    return row.id


def _add_experiments(session: Session, group_id: int, spec_id: int, flag_sets: Sequence[FlagSet]) -> None:
    created = datetime.now()
    rows = [
        {
            "xgroup_id": group_id,
            "container_spec_id": spec_id,
            "args": list(args),
            "kwargs": dict(kwargs),
            "created": created,
        }
        for args, kwargs in flag_sets
    ]
    session.execute(insert(ExperimentRow), rows)
