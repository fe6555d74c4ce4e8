"""Convert database errors to :class:`StoreError` with hints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from caliban.errors import StoreError


@dataclass(frozen=True)
class _Kind:
    """A kind of failure.

    Attributes:
        patterns: lower-case parts of the database's message, or ``[SQLSTATE]``; any of them identifies the kind.
        id: of the error.
        message: what failed; ``{}`` is replaced by the store's location.
        hint: what to do about it.
    """

    patterns: tuple[str, ...]
    id: str
    message: str
    hint: str


# Order matters: the first kind that matches is used. SQLite's messages: https://www.sqlite.org/rescode.html;
# SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. Connection errors of libpq have none.
_KINDS = (
    _Kind(
        ("[55p03]",),
        "store-locked",
        "the experiment store {} is locked by another session",
        "list the sessions with: SELECT pid, usename, state, pg_blocking_pids(pid), query FROM pg_stat_activity; end "
        "the transaction of the one that holds the lock, or the session with: SELECT pg_terminate_backend(PID)",
    ),
    _Kind(
        ("is locked", "[40p01]", "[40001]"),
        "store-locked",
        "the experiment store {} is locked by another process",
        "wait for the other caliban process to end, or stop it, then try again",
    ),
    _Kind(
        ("readonly database", "[25006]"),
        "store-read-only",
        "the experiment store {} is read-only",
        "get write permission for the file and its directory, or set CALIBAN_DB_URL to another store",
    ),
    _Kind(
        ("disk is full", "[53100]"),
        "store-full",
        "cannot write to the experiment store {}: no space left",
        "free disk space there, then try again",
    ),
    _Kind(
        ("disk i/o error", "[58030]"),
        "store-disk-failed",
        "cannot access the experiment store {}: disk I/O error",
        "check disk space (`df`), your quota and the kernel log (`dmesg`), then try again",
    ),
    _Kind(
        ("file is not a database", "file is encrypted"),
        "store-not-a-database",
        "the experiment store {} is not an SQLite database",
        "check the path in CALIBAN_DB_URL; move the file away to start with an empty store",
    ),
    _Kind(
        ("malformed", "[xx001]", "[xx002]"),
        "store-corrupt",
        "the experiment store {} is corrupt",
        "restore it from a backup; `sqlite3 FILE .recover` extracts what can be read",
    ),
    _Kind(
        ("unable to open database", "[42501]"),
        "store-no-permission",
        "cannot open the experiment store {}",
        "check that it is a file, and that you have read and write permission for it and its directory",
    ),
    _Kind(
        ("password authentication failed", "no password supplied", 'fatal:  role "', "no pg_hba.conf entry", "[28"),
        "store-login-refused",
        "the PostgreSQL server of the experiment store {} rejected the login",
        "check user and password in CALIBAN_DB_URL; write %40 for @ and %2F for / in them",
    ),
    _Kind(
        ('fatal:  database "', "[3d000]"),
        "store-database-missing",
        "the database of the experiment store {} does not exist",
        "create it with `createdb`, or correct CALIBAN_DB_URL; caliban creates the tables",
    ),
    _Kind(
        ("connection", "connect", "resolve host", "[57p", "[08", "[53300]"),
        "store-unreachable",
        "cannot reach the PostgreSQL server of the experiment store {}",
        "check host and port in CALIBAN_DB_URL, and that the server is running",
    ),
)

_DELETED = _Kind(
    (),
    "store-gone",
    "the experiment store {} was deleted or moved while it was in use",
    "put it back, then run the command again: jobs that were submitted in the meantime are looked up",
)
_MAY_MEAN_DELETED = frozenset({"store-read-only", "store-no-permission", "store-disk-failed"})
"""What SQLite reports where the file does not exist any more."""

_OTHER = _Kind(
    (),
    "store-failed",
    "unexpected database error in the experiment store {}",
    "read the cause; if it is not clear, report it as a bug",
)


def store_failure(error: DBAPIError, location: str, secrets: Iterable[str] = ()) -> StoreError:
    """Return the error to report for an error of the database.

    Args:
        error: what SQLAlchemy raised.
        location: the store's name in messages.
        secrets: texts that must not be shown, in case the database repeats them.
    """
    message = " ".join(str(error.orig).split("\n")).strip()
    searched = f"{message.lower()} [{str(getattr(error.orig, 'sqlstate', None)).lower()}]"
    kind = next((kind for kind in _KINDS if any(pattern in searched for pattern in kind.patterns)), _OTHER)
    if kind.id in _MAY_MEAN_DELETED and location.startswith("/") and not Path(location).exists():
        kind = _DELETED
    for secret in secrets:
        message = message.replace(secret, "***")
    return StoreError(kind.id, kind.message.format(location), cause=message, hint=kind.hint)


@contextmanager
def translate_errors(location: str, secrets: Iterable[str] = ()) -> Iterator[None]:
    """Convert database errors that the block raises to :class:`StoreError`."""
    try:
        yield
    except DBAPIError as error:
        raise store_failure(error, location, secrets) from error
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        if not _was_raised_by_sqlalchemy(error):
            raise
        raise StoreError(
            "store-malformed-value",
            f"the experiment store {location} contains an invalid value",
            cause=str(error),
            hint="correct that row, or restore the store from a backup",
        ) from error
    except PoolTimeout as error:
        raise StoreError(
            "store-locked",
            f"timed out while waiting for a connection to the experiment store {location}",
            cause=str(error),
            hint="try again with fewer jobs at a time",
        ) from error


def _was_raised_by_sqlalchemy(error: BaseException) -> bool:
    """Return whether a column's type could not read a value, as opposed to a bug in the block's own code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("sqlalchemy.")
