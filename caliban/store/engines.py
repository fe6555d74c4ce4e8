"""Create SQLAlchemy engines, with SQLite transactions that begin where SQLAlchemy begins them."""

from __future__ import annotations

import json
import sqlite3
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event

from caliban.errors import StoreError
from caliban.store.address import ServerAddress
from caliban.store.models import Base

BUSY_TIMEOUT = 30.0
"""How long a process waits for another one that writes to the same SQLite file, in seconds."""

_CONNECT_TIMEOUT = 10
_BEGIN = "caliban_begin"


def sqlite_engine(path: Path, *, writable: bool, foreign_keys: bool = True) -> Engine:
    """Return an engine for an existing SQLite file, which is opened on first use."""
    uri = f"{path.as_uri()}?mode={'rw' if writable else 'ro'}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver sends no BEGIN of its own, which would come late, and never before a SELECT.
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        return connection

    url = URL.create("sqlite", database=str(path))
    return _with_explicit_begin(create_engine(url, creator=connect, json_deserializer=decode_json))


def empty_engine() -> Engine:
    """Return an engine of an empty store in memory, which takes the place of a store that does not exist."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    return engine


def server_engine(address: ServerAddress, *, writable: bool) -> Engine:
    """Return an engine for a PostgreSQL database, which is connected to on first use."""
    timeout = {} if "connect_timeout" in address.url.query else {"connect_timeout": _CONNECT_TIMEOUT}
    engine = create_engine(address.url, connect_args=timeout, json_deserializer=decode_json)
    return engine if writable else engine.execution_options(postgresql_readonly=True)


def begin_immediate(engine: Engine) -> Engine:
    """Return the engine with transactions that take the write lock when they begin.

    A transaction that reads first and writes later cannot wait for the lock: SQLite fails it immediately when another
    connection wrote in between.
    """
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


@lru_cache(maxsize=4096)
def decode_json(text: str | bytes) -> object:
    """Decode a JSON column. Equal texts share one decoded value, which must not be modified.

    Raises:
        StoreError: ``store-malformed-json``.
    """
    try:
        decoded: object = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter: nested too deeply
        raise StoreError(
            "store-malformed-json",
            "the experiment store contains malformed JSON",
            cause=f"{error}: {text[:80]!r}",
            hint="correct that row, or restore the store from a backup",
        ) from error
    return decoded


def _with_explicit_begin(engine: Engine) -> Engine:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    event.listen(engine, "begin", begin)
    return engine
