"""Query what was about to be submitted for experiments that have no job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from caliban.records import JsonObject, PlatformId
from caliban.store.chunks import chunks
from caliban.store.database import Store
from caliban.store.models import JobRow, JobSpecRow, SubmissionRow
from caliban.store.views import json_object, text


@dataclass(frozen=True)
class FirstSubmission:
    """The newest submission of an experiment that has no job: its command was interrupted before a platform had it.

    Attributes:
        experiment_id: whose submission it was.
        platform: where it was to go.
        destination: where on that platform, as :meth:`caliban.records.Destination.to_json` wrote it.
        spec_id: ``job_specs.id`` of what was to be submitted.
        spec: that job spec.
        user, host: who submitted it.
        created: when.
    """

    experiment_id: int
    platform: PlatformId
    destination: JsonObject
    spec_id: int
    spec: JsonObject
    user: str
    host: str
    created: datetime


def first_submissions(store: Store, experiment_ids: Iterable[int]) -> dict[int, FirstSubmission]:
    """Return the newest submission of each experiment that has one and no job, by ``experiments.id``."""
    ids = sorted(set(experiment_ids))
    if not store.has_journal or not ids:
        return {}
    found: dict[int, FirstSubmission] = {}
    with store.reading() as session:
        for chunk in chunks(ids):
            newest = (
                select(func.max(SubmissionRow.id))
                .where(
                    SubmissionRow.experiment_id.in_(chunk),
                    ~select(JobRow.id).where(JobRow.experiment_id == SubmissionRow.experiment_id).exists(),
                )
                .group_by(SubmissionRow.experiment_id)
            )
            statement = (
                select(
                    SubmissionRow.experiment_id,
                    SubmissionRow.platform,
                    SubmissionRow.target,
                    SubmissionRow.user,
                    SubmissionRow.host,
                    SubmissionRow.created,
                    JobSpecRow.id.label("spec_id"),
                    JobSpecRow.spec,
                )
                .join(JobSpecRow, JobSpecRow.id == SubmissionRow.job_spec_id)
                .where(SubmissionRow.id.in_(newest))
            )
            for row in session.execute(statement):
                found[row.experiment_id] = FirstSubmission(
                    row.experiment_id,
                    text(row.platform),
                    json_object(row.target),
                    row.spec_id,
                    json_object(row.spec),
                    text(row.user),
                    text(row.host),
                    row.created,
                )
    return found
