"""End what running commands have not submitted yet of a group: ``caliban stop``.

What is journaled and was not sent is closed: the command finds out before its next request. A command that has not
journaled its jobs yet, because it builds an image, finds a batch without submissions that is newer than itself.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, update
from sqlalchemy.orm import Session

from caliban.attempts import SubmissionState
from caliban.clock import Clock
from caliban.errors import StoreError
from caliban.store.models import BatchRow, ExperimentGroupRow, ExperimentRow, SubmissionRow
from caliban.store.owner import this_process, to_text
from caliban.store.submissions import utc_now

_STOPPED = "stopped by "
_PREFIX = "stop "


def stopped(reason: str) -> StoreError:
    """Return the error for a submission of this command that was not sent since the group was stopped."""
    return StoreError(
        "stopped",
        f"not submitted: {reason}",
        hint="to submit it, run: caliban resubmit",
    )


def reason(user: str) -> str:
    """Return why submissions are closed that this process ends; :func:`is_reason` recognizes it."""
    return f"{_STOPPED}{user} on {socket.gethostname()}"


def is_reason(text: str | None) -> bool:
    """Return whether a submission was closed by :func:`end_group`."""
    return text is not None and text.startswith(_STOPPED)


def newest_batch(session: Session) -> int:
    """Return the highest ``batches.id``: what is newer was stopped after this."""
    return session.scalar(select(func.max(BatchRow.id))) or 0


def end_group(session: Session, clock: Clock, user: str, group: str | None) -> list[int]:
    """Close what has not been sent of a group (None: of all groups of the user), and let no open command add to it.

    Returns:
        ``submissions.id`` of what was closed.
    """
    now = session.scalar(select(utc_now(session, clock)))
    owner = to_text(this_process())
    session.add(
        BatchRow(
            command=_key(user, group), newest_job=0, owner=owner, opened=now, renewals=0, renewed=now, finished=now
        )
    )
    session.flush()
    # the locks that a command takes before it looks for such a batch and journals its jobs
    session.execute(_experiments(user, group).order_by(ExperimentRow.id).with_for_update(of=ExperimentRow))
    closed = session.execute(
        update(SubmissionRow)
        .where(
            SubmissionRow.experiment_id.in_(_experiments(user, group)),
            SubmissionRow.state == SubmissionState.OPEN,
            SubmissionRow.batch_id.is_not(None),
            SubmissionRow.sent.is_(None),
        )
        .values(state=SubmissionState.ABANDONED, error=reason(user))
        .returning(SubmissionRow.id)
        .execution_options(synchronize_session=False)
    )
    return sorted(closed.scalars())


def ended_experiments(session: Session, experiment_ids: Sequence[int], since: int) -> set[int]:
    """Return those experiments whose group was stopped after the batch ``since``.

    Args:
        session: of a transaction that has locked the experiments.
        experiment_ids: which.
        since: of :func:`newest_batch`, when the command began.
    """
    stops = select(BatchRow.command).where(BatchRow.id > since, BatchRow.command.startswith(_PREFIX))
    keys = set(session.scalars(stops))
    if not keys:
        return set()
    groups = (
        select(ExperimentRow.id, ExperimentGroupRow.user, ExperimentGroupRow.name)
        .join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id)
        .where(ExperimentRow.id.in_(experiment_ids))
    )
    return {
        experiment_id
        for experiment_id, user, group in session.execute(groups)
        if keys & {_key(user or "", group or ""), _key(user or "", None)}
    }


def _key(user: str, group: str | None) -> str:
    """Return ``batches.command`` of a stop: of one group, or with None of all of the user's."""
    text = f"{user}\0{group}" if group is not None else user
    return _PREFIX + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def _experiments(user: str, group: str | None) -> Select[Any]:
    of_user: ColumnElement[bool] = ExperimentGroupRow.user == user
    meant = of_user if group is None else and_(of_user, ExperimentGroupRow.name == group)
    return (
        select(ExperimentRow.id).join(ExperimentGroupRow, ExperimentGroupRow.id == ExperimentRow.xgroup_id).where(meant)
    )
