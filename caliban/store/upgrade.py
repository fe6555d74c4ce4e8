"""Upgrade a store to the newest revision. Imported only when that is necessary, as Alembic takes long to import."""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.exc import DBAPIError

from caliban.errors import StoreError
from caliban.reporter import Reporter
from caliban.store.address import DEFAULT_DIRECTORY, Address, SqliteAddress
from caliban.store.engines import begin_immediate, lock_reporter, server_engine, sqlite_engine
from caliban.store.failures import store_failure
from caliban.store.models import HEAD, VERSION_TABLE, ExperimentGroupRow

_ADVISORY_LOCK = 0x63616C6962616E
"""An arbitrary key for PostgreSQL's advisory lock: the letters of caliban."""

_ALEMBIC_LOCK = Lock()
"""Alembic keeps the running migration in a global variable."""


def alembic_config(connection: Connection) -> Config:
    """Return the configuration for Alembic's commands, which run on ``connection``, in its transaction."""
    config = Config()
    config.set_main_option("script_location", "caliban.store:migrations")
    config.attributes["connection"] = connection
    return config


def upgrade(address: Address, reporter: Reporter) -> None:
    """Upgrade to :data:`~caliban.store.models.HEAD`, unless another process does so first.

    An SQLite file with history is copied to the same directory first, and the path of the copy is reported. The default
    store becomes private: mode 0600, in a directory of mode 0700.

    Raises:
        StoreError: ``store-upgrade-failed``, or a database error before the upgrade began. The store is then unchanged.
    """
    engine = _engine(address, reporter)
    try:
        with _ALEMBIC_LOCK, ExitStack() as undo:
            copy = _upgrade(engine, address, undo)
            undo.pop_all()
    finally:
        engine.dispose()
    if isinstance(address, SqliteAddress) and address.path.parent.name == DEFAULT_DIRECTORY:
        _make_private(address.path)
    if copy is not None:
        reporter.info(f"upgraded the experiment store {address.location}; the previous version was copied to {copy}")


def _engine(address: Address, reporter: Reporter) -> Engine:
    if isinstance(address, SqliteAddress):
        # with foreign keys on, dropping a table that is being rebuilt would count as deleting its rows
        report = lock_reporter(address, reporter)
        return begin_immediate(sqlite_engine(address.file, report, writable=True, foreign_keys=False))
    return server_engine(address, reporter, writable=True)


def _upgrade(engine: Engine, address: Address, undo: ExitStack) -> Path | None:
    try:
        connection = undo.enter_context(engine.connect())
        connection.begin()
        copy = None
        if isinstance(address, SqliteAddress):
            copy = _backup(address.file, undo) if _has_history_below_head(connection) else None
        else:
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    except DBAPIError as error:
        raise store_failure(error, address.location, address.secrets) from error
    try:
        command.upgrade(alembic_config(connection), "head")
        connection.commit()
        connection.close()
    except (DBAPIError, CommandError) as error:
        raise _failed(error, address) from error
    return copy


def _has_history_below_head(connection: Connection) -> bool:
    tables = inspect(connection)
    if not tables.has_table(ExperimentGroupRow.__tablename__):
        return False
    if not tables.has_table(VERSION_TABLE):
        return True
    return connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar() != HEAD


def _backup(path: Path, undo: ExitStack) -> Path:
    """Copy a database that this process has locked against writing; ``undo`` deletes the copy."""
    try:
        copy = _new_private_file(path.with_name(f"{path.name}.before-{HEAD}"))
        undo.callback(copy.unlink)
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            "store-backup-failed",
            f"cannot upgrade the experiment store {path}: it could not be backed up",
            cause=str(error),
            hint="check disk space and permissions in its directory",
        ) from error
    return copy


def _make_private(path: Path) -> None:
    """Hide the default store from other users: caliban 0.4.2 left its mode to the umask."""
    with suppress(PermissionError):  # it belongs to another user
        path.parent.chmod(0o700)
        path.chmod(0o600)


def _new_private_file(path: Path) -> Path:
    file, number = path, 1
    while True:
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            file, number = path.with_name(f"{path.name}.{number}"), number + 1
        else:
            return file


def _failed(error: DBAPIError | CommandError, address: Address) -> StoreError:
    cause, hint = str(error), "report this as a bug, with the cause"
    if isinstance(error, DBAPIError):
        known = store_failure(error, address.location, address.secrets)
        if known.id == "store-locked":  # only on PostgreSQL: an SQLite file is locked before the upgrade begins
            return known
        cause, hint = known.cause or cause, known.hint or hint
    return StoreError(
        "store-upgrade-failed",
        f"cannot upgrade the experiment store {address.location}; it is unchanged",
        cause=cause,
        hint=hint,
    )
