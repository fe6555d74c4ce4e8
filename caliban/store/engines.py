"""Create SQLAlchemy engines, with SQLite transactions that begin where SQLAlchemy begins them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event

from caliban.errors import StoreError
from caliban.reporter import Reporter
from caliban.store.address import Address, ServerAddress
from caliban.store.models import Base

BUSY_TIMEOUT = 300.0
"""How long a process waits for another one that uses the same store, in seconds.

caliban 0.4.2 keeps an SQLite file locked while it queries services.
"""

_SLICE = 0.25
"""Seconds after which Python looks for Ctrl-C, which SQLite does not."""

_REPORT_AFTER = 2.0
"""Seconds after which a message says what is waited for."""

_T = TypeVar("_T")

_CONNECT_TIMEOUT = 10
_BEGIN = "caliban_begin"


class _Cursor(sqlite3.Cursor):
    """A cursor whose statements wait for locks, as far as they can be repeated."""

    def execute(self, sql: str, parameters: Any = (), /) -> _Cursor:  # noqa: ANN401 - as in the standard library
        connection = self.connection
        assert isinstance(connection, _Connection)
        super_execute = super().execute
        connection.patiently(lambda: super_execute(sql, parameters))
        return self


class _Connection(sqlite3.Connection):
    """A connection that waits for other processes in short slices, so that Ctrl-C works meanwhile.

    Attributes:
        report: called once it has waited for two seconds.
    """

    report: Callable[[], None]

    def cursor(self, factory: Any = _Cursor) -> Any:  # noqa: ANN401 - as in the standard library
        return super().cursor(factory)

    def commit(self) -> None:
        self.patiently(super().commit)

    def patiently(self, call: Callable[[], _T]) -> _T:
        """Return ``call()``, repeated while the file is locked. SQLite itself waits for the length of a slice."""
        waited = 0.0
        while True:
            was_in_transaction = self.in_transaction
            try:
                return call()
            except sqlite3.OperationalError as error:
                waited += _SLICE
                # a statement that ended the transaction must not be repeated outside of it
                is_repeatable = "is locked" in str(error) and self.in_transaction == was_in_transaction
                if not is_repeatable or waited >= BUSY_TIMEOUT:
                    raise
            if waited >= _REPORT_AFTER:
                self.report()


def sqlite_engine(path: Path, report: Callable[[], None], *, writable: bool, foreign_keys: bool = True) -> Engine:
    """Return an engine for an existing SQLite file, which is opened on first use.

    Args:
        path: of the file itself, not of a symbolic link.
        report: called when another process locks the file for longer than a moment.
        writable: whether it is opened for writing.
        foreign_keys: whether they are enforced.
    """
    uri = f"{path.as_uri()}?mode={'rw' if writable else 'ro'}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver sends no BEGIN of its own, which would come late, and never before a SELECT.
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=min(_SLICE, BUSY_TIMEOUT),
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.report = report
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        # so that only the begin and the end of a transaction wait for other processes
        connection.execute("PRAGMA cache_spill = OFF")
        return connection

    url = URL.create("sqlite", database=str(path))
    return _with_explicit_begin(create_engine(url, creator=connect, json_deserializer=decode_json))


def lock_reporter(address: Address, reporter: Reporter) -> Callable[[], None]:
    """Return a function that reports once that a store is locked."""
    reported = Event()

    def report() -> None:
        if not reported.is_set():
            reported.set()
            reporter.info(
                f"the experiment store {address.location} is locked by another process; waiting for up to "
                f"{BUSY_TIMEOUT / 60:.0f} minutes ..."
            )

    return report


def empty_engine() -> Engine:
    """Return an engine of an empty store in memory, which takes the place of a store that does not exist."""
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
        json_deserializer=decode_json,
    )
    Base.metadata.create_all(engine)
    return engine


def server_engine(address: ServerAddress, reporter: Reporter | None = None, *, writable: bool) -> Engine:
    """Return an engine for a PostgreSQL database, which is connected to on first use.

    Args:
        address: of the database.
        reporter: gets a line when a lock, or the server, is waited for; None for nobody.
        writable: whether transactions may write.
    """
    timeout = {} if "connect_timeout" in address.url.query else {"connect_timeout": _CONNECT_TIMEOUT}
    engine = create_engine(address.url, connect_args=timeout, json_deserializer=decode_json)
    on_lock = _say_nothing if reporter is None else lock_reporter(address, reporter)
    on_slow = _say_nothing if reporter is None else reporter.info

    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> object:  # noqa: ANN401 - psycopg's
        from caliban.store import server_connection  # psycopg is optional

        waits = server_connection.Waits(address.location, on_lock, on_slow)
        return server_connection.connect(waits, arguments, options)

    event.listen(engine, "do_connect", connect)
    return engine if writable else engine.execution_options(postgresql_readonly=True)


def _say_nothing(*lines: str) -> None:
    """Report nothing."""


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
