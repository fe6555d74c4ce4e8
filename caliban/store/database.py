"""Open the store: for reading as it is, or for writing at the revision of this version.

Importing this module does not import Alembic; opening a store does so only when the store has to be upgraded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum, unique
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from sqlalchemy import Engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from caliban.errors import StoreError
from caliban.reporter import Reporter
from caliban.store.address import DEFAULT_DIRECTORY, Address, SqliteAddress, parse_address, store_url
from caliban.store.engines import begin_immediate, empty_engine, lock_reporter, server_engine, sqlite_engine
from caliban.store.failures import translate_errors
from caliban.store.models import (
    FIRST_WITH_BATCHES,
    FIRST_WITH_CODE,
    FIRST_WITH_JOB_LOGS,
    FIRST_WITH_JOURNAL,
    FIRST_WITH_ORIGINS,
    HAS_JOB_LOGS,
    HAS_ORIGINS,
    HEAD,
    REVISIONS,
    VERSION_TABLE,
    ExperimentGroupRow,
)

__all__ = ["Access", "Store", "open_store", "store_url"]


@unique
class Access(Enum):
    """What a store is opened for."""

    READ = "read"
    """Nothing is created, upgraded or written."""
    WRITE = "write"
    """The store is created or upgraded if necessary."""


class Store:
    """An open store: a context manager, which closes it. Several threads can use it.

    Attributes:
        exists: whether there is a store; one that does not exist can be queried like an empty one.
        has_journal: whether it has the table of submissions.
        has_batches: whether it has the table of their batches.
        has_job_logs: whether it has the table of the output of jobs; its sessions say so too (``session.info``).
        has_origins: whether it has the table of the origins of experiments; likewise.
        has_code: whether it has the tables of what images were built from.
        location: its name in messages, without a password.
    """

    def __init__(self, engine: Engine, address: Address, access: Access, *, revision: str | None, exists: bool) -> None:
        self.exists = exists
        self.has_journal = revision is not None and revision >= FIRST_WITH_JOURNAL
        self.has_batches = revision is not None and revision >= FIRST_WITH_BATCHES
        self.has_job_logs = revision is not None and revision >= FIRST_WITH_JOB_LOGS
        self.has_origins = revision is not None and revision >= FIRST_WITH_ORIGINS
        self.has_code = revision is not None and revision >= FIRST_WITH_CODE
        self.location = address.location
        self._address = address
        self._access = access
        self._engine = engine
        self._closing = ExitStack()
        self._closing.callback(engine.dispose)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees one state of the store and is rolled back at the end.

        Raises:
            StoreError: for every database error within the block.
        """
        with translate_errors(self.location, self._address.secrets), Session(self._engine, info=self._info) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session that is committed at the end, or rolled back when the block raises.

        Raises:
            StoreError: for every database error within the block; ``store-opened-for-reading``.
        """
        if self._access is Access.READ:
            raise StoreError("store-opened-for-reading", f"the experiment store {self.location} is open for reading")
        with (
            translate_errors(self.location, self._address.secrets),
            Session(begin_immediate(self._engine), info=self._info) as session,
            session.begin(),
        ):
            yield session

    @property
    def _info(self) -> dict[str, bool]:
        return {HAS_JOB_LOGS: self.has_job_logs, HAS_ORIGINS: self.has_origins}

    def close(self) -> None:
        """Close all connections. Closing again does nothing."""
        self._closing.close()

    def close_with(self, resources: ExitStack) -> None:
        """Release ``resources`` when the store is closed, after its connections."""
        callbacks = self._closing.pop_all()
        self._closing.push(resources)
        self._closing.push(callbacks)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str, access: Access, reporter: Reporter) -> Store:
    """Open the store that ``url`` names.

    Args:
        url: as :func:`store_url` returns it.
        access: with READ, a store that does not exist or was never upgraded is used as it is. With WRITE, a missing
            SQLite file is created (mode 0600), its directory too if that is called ``.caliban`` (mode 0700), and the
            store is upgraded.
        reporter: gets the path of the copy that an upgrade makes of an SQLite file.

    Raises:
        StoreError: the URL is malformed, or the database cannot be opened, was upgraded by a newer version, or cannot
            be upgraded.
    """
    address = parse_address(url)
    if isinstance(address, SqliteAddress):
        _check_directory(address.path.parent)
    if access is Access.WRITE:
        return _open_for_writing(address, reporter)
    return _open_for_reading(address, reporter)


def _open_for_reading(address: Address, reporter: Reporter) -> Store:
    if not isinstance(address, SqliteAddress):
        return _as_it_is(server_engine(address, reporter, writable=False), address)
    if not _file_exists(address.path):
        return Store(empty_engine(), address, Access.READ, revision=None, exists=False)
    try:
        return _as_it_is(sqlite_engine(address.file, lock_reporter(address, reporter), writable=False), address)
    except StoreError:
        # A process died while it wrote. Reading requires a rollback first, which must not change the file itself.
        if not _leftovers(address.file):
            raise
    return _read_a_copy(address, reporter)


def _as_it_is(engine: Engine, address: Address) -> Store:
    with _disposed_on_failure(engine), translate_errors(address.location, address.secrets):
        revision = _revision(engine, address)
        if revision is None and not inspect(engine).has_table(ExperimentGroupRow.__tablename__):
            engine.dispose()
            return Store(empty_engine(), address, Access.READ, revision=None, exists=False)
    return Store(engine, address, Access.READ, revision=revision, exists=True)


def _read_a_copy(address: SqliteAddress, reporter: Reporter) -> Store:
    with ExitStack() as resources:
        directory = Path(resources.enter_context(TemporaryDirectory(prefix="caliban-store-")))
        try:
            for file in (*_leftovers(address.file), address.file):
                shutil.copy(file, directory)
        except OSError as error:
            raise _no_permission(address.path, error) from error
        copy = directory / address.file.name
        store = _as_it_is(sqlite_engine(copy, lock_reporter(address, reporter), writable=True), address)
        store.close_with(resources.pop_all())
        return store


def _leftovers(path: Path) -> list[Path]:
    """Return the files next to a database that hold part of its content: https://www.sqlite.org/tempfiles.html."""
    files = (path.with_name(path.name + suffix) for suffix in ("-journal", "-wal"))
    return [file for file in files if file.exists()]


def _open_for_writing(address: Address, reporter: Reporter) -> Store:
    if isinstance(address, SqliteAddress):
        _create_file(address)
        engine = sqlite_engine(address.file, lock_reporter(address, reporter), writable=True)
    else:
        engine = server_engine(address, reporter, writable=True)
    with _disposed_on_failure(engine), translate_errors(address.location, address.secrets):
        if _revision(engine, address) != HEAD:
            from caliban.store.upgrade import upgrade  # importing Alembic takes longer than most commands

            upgrade(address, reporter)
            # SQLite has read that there are no such tables, and says so again while another process commits
            engine.dispose()
    return Store(engine, address, Access.WRITE, revision=HEAD, exists=True)


@contextmanager
def _disposed_on_failure(engine: Engine) -> Iterator[None]:
    with ExitStack() as undo:
        undo.callback(engine.dispose)
        yield
        undo.pop_all()


def _revision(engine: Engine, address: Address) -> str | None:
    """Return the store's revision, in one statement; None for a store of caliban 0.4.2."""
    try:
        with engine.connect() as connection:
            revision: str | None = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
    except DBAPIError as error:
        if "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01":
            return None
        raise
    if revision is not None and revision not in REVISIONS:
        raise StoreError(
            "store-newer",
            f"cannot open the experiment store {address.location}: it was upgraded by a newer version of caliban",
            cause=f"the store is at revision {revision}; this version supports {', '.join(REVISIONS)}",
            hint="pip install --upgrade caliban",
        )
    return revision


def _check_directory(directory: Path) -> None:
    variable = "CALIBAN_DB_URL"
    if directory.name == DEFAULT_DIRECTORY:
        directory, variable = directory.parent, "HOME"
    try:
        exists = directory.is_dir()
    except OSError as error:
        raise _no_permission(directory, error) from error
    if not exists:
        raise StoreError(
            "store-folder-missing",
            f"cannot open the experiment store: directory not found: {directory}",
            hint=f"create it, or correct {variable}",
        )


def _file_exists(path: Path) -> bool:
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _no_permission(path, error) from error
    return True


def _create_file(address: SqliteAddress) -> None:
    path, directory = address.path, address.file.parent
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # SQLite writes its journal next to the file: fail now rather than after a job was submitted.
        if not os.access(directory, os.W_OK):
            raise PermissionError(f"no permission to write to the directory {directory}")
    except OSError as error:
        raise _no_permission(path, error) from error


def _no_permission(path: Path, error: OSError) -> StoreError:
    return StoreError(
        "store-no-permission",
        f"cannot open the experiment store {path}",
        cause=str(error),
        hint="check that it is a file, and that you have read and write permission for it and its directory",
    )
