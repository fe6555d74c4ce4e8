"""SQLAlchemy engines, set up so that SQLite's transactions are what they say."""

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
"""Seconds that a process waits for another one that is writing the same SQLite file."""

_CONNECT_TIMEOUT = 10
_BEGIN = "caliban_begin"


def sqlite_engine(path: Path, *, writable: bool, foreign_keys: bool = True) -> Engine:
    """Make an engine for an SQLite file that exists; it is opened when it is first asked for something."""
    uri = f"{path.as_uri()}?mode={'rw' if writable else 'ro'}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver leaves BEGIN to us; otherwise it would begin late, and never before a SELECT.
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        return connection

    url = URL.create("sqlite", database=str(path))
    return _with_explicit_begin(create_engine(url, creator=connect, json_deserializer=decode_json))


def empty_engine() -> Engine:
    """Make an engine of an empty store in memory: what a store that does not exist answers."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    return engine


def server_engine(address: ServerAddress, *, writable: bool) -> Engine:
    """Make an engine for a PostgreSQL database; it is opened when it is first asked for something."""
    timeout = {} if "connect_timeout" in address.url.query else {"connect_timeout": _CONNECT_TIMEOUT}
    engine = create_engine(address.url, connect_args=timeout, json_deserializer=decode_json)
    return engine if writable else engine.execution_options(postgresql_readonly=True)


def begin_immediate(engine: Engine) -> Engine:
    """Give a view of the engine whose transactions wait for other writers at their begin.

    One that reads first and writes later could not wait: SQLite refuses it at once when another wrote in between.
    """
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


@lru_cache(maxsize=4096)
def decode_json(text: str | bytes) -> object:
    """Decode a JSON column. Equal texts share one decoded value, which nobody may change.

    Raises:
        StoreError: ``store-malformed-json``.
    """
    try:
        decoded: object = json.loads(text)
    except ValueError as error:
        raise StoreError(
            "store-malformed-json",
            "the experiment store holds a text that is not JSON where a spec or details should be",
            cause=f"{error}: {text[:80]!r}",
            hint="correct that row by hand, or restore the store from a backup",
        ) from error
    return decoded


def _with_explicit_begin(engine: Engine) -> Engine:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    event.listen(engine, "begin", begin)
    return engine
