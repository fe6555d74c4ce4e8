"""What databases say when they refuse, turned into a :class:`StoreError` with advice."""

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
        needles: lower-case words of the database's own message, or ``[SQLSTATE]``; one of them tells the kind.
        id: of the error.
        message: what is not done; ``{}`` stands for the store.
        hint: what to do about it.
    """

    needles: tuple[str, ...]
    id: str
    message: str
    hint: str


# LaunchOptions matters: the first kind that matches is taken. SQLite's texts are those of https://www.sqlite.org/rescode.html,
# the five-character codes those of https://www.postgresql.org/docs/current/errcodes-appendix.html; what libpq says
# while it connects comes without a code.
_KINDS = (
    _Kind(
        ("is locked", "[55p03]", "[40p01]", "[40001]"),
        "store-locked",
        "the experiment store {} is in use by another process and stayed so for too long",
        "wait for the other caliban process to end, or stop it, and try again",
    ),
    _Kind(
        ("readonly database", "[25006]"),
        "store-read-only",
        "the experiment store {} cannot be written",
        "give yourself write permission for the file and its folder, or name another store in CALIBAN_DB_URL",
    ),
    _Kind(
        ("disk is full", "[53100]"),
        "store-full",
        "the experiment store {} cannot be written: there is no space left",
        "free some space where the store is, and try again",
    ),
    _Kind(
        ("disk i/o error", "[58030]"),
        "store-disk-failed",
        "the experiment store {} cannot be read or written: its disk refuses",
        "see whether the disk is full (`df`), a quota is used up, or the disk fails (`dmesg`), and try again",
    ),
    _Kind(
        ("file is not a database", "file is encrypted"),
        "store-not-a-database",
        "the experiment store {} is not an SQLite database",
        "check the path in CALIBAN_DB_URL; move the file away to begin with an empty store",
    ),
    _Kind(
        ("malformed", "[xx001]", "[xx002]"),
        "store-corrupt",
        "the experiment store {} is damaged",
        "restore it from a backup; `sqlite3 FILE .recover` saves what can be read",
    ),
    _Kind(
        ("unable to open database", "[42501]"),
        "store-no-permission",
        "the experiment store {} cannot be opened",
        "check that it is a file, not a folder, and that you may read and write it and the folder that it is in",
    ),
    _Kind(
        ("password authentication failed", "no password supplied", 'fatal:  role "', "no pg_hba.conf entry", "[28"),
        "store-login-refused",
        "the PostgreSQL server of the experiment store {} refuses the login",
        "check user and password in CALIBAN_DB_URL; characters like @ and / are written %40 and %2F there",
    ),
    _Kind(
        ('fatal:  database "', "[3d000]"),
        "store-database-missing",
        "the PostgreSQL server of the experiment store {} has no such database",
        "create it with `createdb`, or correct CALIBAN_DB_URL; caliban makes the tables itself",
    ),
    _Kind(
        ("connection", "connect", "resolve host", "[57p", "[08", "[53300]"),
        "store-unreachable",
        "the PostgreSQL server of the experiment store {} cannot be reached",
        "check host and port in CALIBAN_DB_URL and that the server is running",
    ),
)

_GONE = _Kind(
    (),
    "store-gone",
    "the experiment store {} was deleted, or moved, while it was in use",
    "put it back where it was and run the command again: what was submitted meanwhile is then looked up",
)
_PERHAPS_GONE = frozenset({"store-read-only", "store-no-permission", "store-disk-failed"})
"""What SQLite says where there is no file any more."""

_ANY = _Kind(
    (),
    "store-failed",
    "the experiment store {} did not do what was asked of it",
    "read the cause; if it is not clear, please report it as a bug",
)


def store_failure(error: DBAPIError, location: str, secrets: Iterable[str] = ()) -> StoreError:
    """Make the error that a person sees of one that the database gave.

    Args:
        error: what SQLAlchemy raised.
        location: the store's name for people.
        secrets: texts that must not be shown, should the database repeat them.
    """
    said = " ".join(str(error.orig).split("\n")).strip()
    told = f"{said.lower()} [{str(getattr(error.orig, 'sqlstate', None)).lower()}]"
    kind = next((kind for kind in _KINDS if any(needle in told for needle in kind.needles)), _ANY)
    if kind.id in _PERHAPS_GONE and location.startswith("/") and not Path(location).exists():
        kind = _GONE
    for secret in secrets:
        said = said.replace(secret, "***")
    return StoreError(kind.id, kind.message.format(location), cause=said, hint=kind.hint)


@contextmanager
def translate_errors(location: str, secrets: Iterable[str] = ()) -> Iterator[None]:
    """Let the errors of the database leave the block as :class:`StoreError`."""
    try:
        yield
    except DBAPIError as error:
        raise store_failure(error, location, secrets) from error
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        if not _was_raised_by_sqlalchemy(error):
            raise
        raise StoreError(
            "store-malformed-value",
            f"the experiment store {location} holds a value that its column cannot have",
            cause=str(error),
            hint="correct that row by hand, or restore the store from a backup",
        ) from error
    except PoolTimeout as error:
        raise StoreError(
            "store-locked",
            f"no connection to the experiment store {location} became free in time",
            cause=str(error),
            hint="try again with fewer jobs at the same time",
        ) from error


def _was_raised_by_sqlalchemy(error: BaseException) -> bool:
    """Tell a value that a column's type cannot read from a mistake in the block's own code."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("sqlalchemy.")
