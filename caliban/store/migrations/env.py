"""Alembic runs this for every command, on the connection of ``caliban.store.upgrade``, already in a transaction."""

from __future__ import annotations

from alembic import context

from caliban.store.models import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
