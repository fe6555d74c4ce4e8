"""Read experiment groups, with the details of their jobs as each platform reads them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sqlalchemy.orm import Session

from caliban.errors import CalibanError
from caliban.platforms.registry import parse_details
from caliban.records import GroupRecord, JsonObject
from caliban.store import queries
from caliban.store.database import Store


def read_group(store: Store, user: str, name: str, *, per_experiment: int | None = 1) -> GroupRecord:
    """Return a group with the newest jobs of each experiment.

    Args:
        store: where it is.
        user: whose group it is.
        name: the group's name.
        per_experiment: how many jobs of each experiment; None for all.

    Raises:
        CalibanError: ``unknown-xgroup``.
    """
    with store.reading() as session:
        group = queries.group_attempts(session, parse_details, user, name, per_experiment=per_experiment)
        if group is None:
            raise _unknown_group(session, store, user, name)
    return group


def read_recent(store: Store, user: str, limit: int | None) -> list[GroupRecord]:
    """Return the user's newest ``limit`` jobs (None: all) in their groups and experiments."""
    with store.reading() as session:
        return queries.recent_attempts(session, parse_details, user, limit)


def add_experiments(
    store: Store, user: str, name: str, container_spec: JsonObject, flag_sets: Sequence[queries.FlagSet]
) -> GroupRecord:
    """Return the experiments of these flag sets in a group; what is missing of them is created."""
    with store.writing() as session:
        return queries.experiments_of_flag_sets(
            session, parse_details, user=user, group=name, container_spec=container_spec, flag_sets=flag_sets
        )


def _unknown_group(session: Session, store: Store, user: str, name: str) -> CalibanError:
    """Return the error for a group that ``user`` does not have, with close names."""
    names = queries.group_names(session, user)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not store.exists:
        hint = f"there is no experiment store at {store.location} yet; caliban run creates one"
    elif close:
        hint = f"did you mean {' or '.join(close)}?"
    elif names:
        hint = f"your experiment groups: {', '.join(names[-10:])}"
    else:
        hint = f"{store.location} has no experiment groups of {user}; set $CALIBAN_USER to another user's name"
    return CalibanError("unknown-xgroup", f'{user} has no experiment group "{name}"', hint=hint)
