"""Locks that serialize what several commands do at the same time."""

from __future__ import annotations

import hashlib

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def lock_group(session: Session, user: str, group: str) -> None:
    """Let no other transaction create experiments of a group until this one ends.

    On SQLite the transaction already holds the write lock; on PostgreSQL two could create the same rows.
    """
    if session.get_bind().dialect.name == "postgresql":
        digest = hashlib.blake2b(f"{user}\0{group}".encode(), digest_size=8).digest()
        session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(digest, "big", signed=True))))
