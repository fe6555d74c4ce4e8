"""Query who submitted jobs, and from where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from caliban.store.chunks import chunks
from caliban.store.database import Store
from caliban.store.models import SubmissionRow


def submitters(store: Store, job_ids: Iterable[int]) -> Mapping[int, tuple[str, str]]:
    """Return the user and the host of the submission of each job that has one; caliban 0.4.2 records none."""
    if not store.has_journal:
        return {}
    found: dict[int, tuple[str, str]] = {}
    ids = sorted(set(job_ids))
    with store.reading() as session:
        for chunk in chunks(ids):
            statement = select(SubmissionRow.job_id, SubmissionRow.user, SubmissionRow.host).where(
                SubmissionRow.job_id.in_(chunk)
            )
            for job_id, user, host in session.execute(statement):
                if job_id is not None:
                    found[job_id] = (str(user), str(host))
    return found
