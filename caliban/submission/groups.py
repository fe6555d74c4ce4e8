"""Experiment groups by name: what to say of one that is not there."""

from __future__ import annotations

import difflib

from sqlalchemy.orm import Session

from caliban.errors import CalibanError
from caliban.store.database import Store
from caliban.store.queries import group_names


def unknown_group(session: Session, store: Store, user: str, name: str) -> CalibanError:
    """The error for a group that ``user`` does not have, naming those that are close to it."""
    names = group_names(session, user)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not store.exists:
        hint = f"there is no experiment store yet at {store.location}; caliban run makes one"
    elif near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"your experiment groups: {', '.join(names[-10:])}"
    else:
        hint = f"{store.location} has no experiment groups of {user}; set $CALIBAN_USER to look for another user's"
    return CalibanError("unknown-xgroup", f"{user} has no experiment group {name}", hint=hint)
