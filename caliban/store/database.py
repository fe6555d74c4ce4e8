"""Open the store, for reading as it is or for writing as this caliban writes it.

Importing this module imports no Alembic; opening a store does so only when the store has to be upgraded.
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
from caliban.store.address import DEFAULT_FOLDER, Address, SqliteAddress, parse_address, store_url
from caliban.store.engines import begin_immediate, empty_engine, server_engine, sqlite_engine
from caliban.store.failures import translate_errors
from caliban.store.models import FIRST_WITH_JOURNAL, HEAD, REVISIONS, VERSION_TABLE, ExperimentGroupRow

__all__ = ["Access", "Store", "open_store", "store_url"]


@unique
class Access(Enum):
    """What a store is opened for."""

    READ = "read"
    """Nothing is created, upgraded or written."""
    WRITE = "write"
    """It is created or upgraded where that is needed."""


class Store:
    """An open store. A context manager that closes itself; may be used by several threads.

    Attributes:
        exists: whether there is a store; one that is not answers every query as an empty store does.
        has_journal: whether it was upgraded to hold submissions.
        location: its name for people, without a password.
    """

    def __init__(self, engine: Engine, address: Address, access: Access, *, revision: str | None, exists: bool) -> None:
        self.exists = exists
        self.has_journal = revision is not None and revision >= FIRST_WITH_JOURNAL
        self.location = address.location
        self._address = address
        self._access = access
        self._engine = engine
        self._closing = ExitStack()
        self._closing.callback(engine.dispose)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees one state of the store and is rolled back at the end.

        Raises:
            StoreError: for whatever the database refuses within the block.
        """
        with translate_errors(self.location, self._address.secrets), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session that is committed at the end, or rolled back when the block raises.

        Raises:
            StoreError: for whatever the database refuses within the block; ``store-opened-for-reading``.
        """
        if self._access is Access.READ:
            raise StoreError("store-opened-for-reading", f"the experiment store {self.location} was opened to be read")
        with (
            translate_errors(self.location, self._address.secrets),
            Session(begin_immediate(self._engine)) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close all connections. A second time does nothing."""
        self._closing.close()

    def close_with(self, resources: ExitStack) -> None:
        """Let go of ``resources`` when the store is closed, after its connections."""
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
        url: as :func:`store_url` gives it.
        access: with READ, a store that does not exist or was never upgraded is taken as it is. With WRITE, a missing
            SQLite file is made (mode 0600), its folder too if that is called ``.caliban`` (mode 0700), and the store is
            upgraded.
        reporter: is told where the copy is that an upgrade makes of an SQLite file.

    Raises:
        StoreError: the URL is malformed or its database cannot be opened, is of a newer caliban, or cannot be upgraded.
    """
    address = parse_address(url)
    if isinstance(address, SqliteAddress):
        _check_folder(address.path.parent)
    if access is Access.WRITE:
        return _open_for_writing(address, reporter)
    return _open_for_reading(address)


def _open_for_reading(address: Address) -> Store:
    if not isinstance(address, SqliteAddress):
        return _as_it_is(server_engine(address, writable=False), address)
    if not _file_exists(address.path):
        return Store(empty_engine(), address, Access.READ, revision=None, exists=False)
    try:
        return _as_it_is(sqlite_engine(address.path, writable=False), address)
    except StoreError:
        # A process died while it wrote: reading takes rolling back first, which must not happen in the file itself.
        if not _leftovers(address.path):
            raise
    return _read_a_copy(address)


def _as_it_is(engine: Engine, address: Address) -> Store:
    with _disposed_on_failure(engine), translate_errors(address.location, address.secrets):
        revision = _revision(engine, address)
        if revision is None and not inspect(engine).has_table(ExperimentGroupRow.__tablename__):
            engine.dispose()
            return Store(empty_engine(), address, Access.READ, revision=None, exists=False)
    return Store(engine, address, Access.READ, revision=revision, exists=True)


def _read_a_copy(address: SqliteAddress) -> Store:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(TemporaryDirectory(prefix="caliban-store-")))
        try:
            for file in (*_leftovers(address.path), address.path):
                shutil.copy(file, folder)
        except OSError as error:
            raise _no_permission(address.path, error) from error
        store = _as_it_is(sqlite_engine(folder / address.path.name, writable=True), address)
        store.close_with(resources.pop_all())
        return store


def _leftovers(path: Path) -> list[Path]:
    """Files beside a database that hold part of its content: see https://www.sqlite.org/tempfiles.html."""
    beside = (path.with_name(path.name + suffix) for suffix in ("-journal", "-wal"))
    return [file for file in beside if file.exists()]


def _open_for_writing(address: Address, reporter: Reporter) -> Store:
    if isinstance(address, SqliteAddress):
        _make_file(address.path)
        engine = sqlite_engine(address.path, writable=True)
    else:
        engine = server_engine(address, writable=True)
    with _disposed_on_failure(engine), translate_errors(address.location, address.secrets):
        if _revision(engine, address) != HEAD:
            from caliban.store.upgrade import upgrade  # Alembic costs more to import than most commands take.

            upgrade(address, reporter)
    return Store(engine, address, Access.WRITE, revision=HEAD, exists=True)


@contextmanager
def _disposed_on_failure(engine: Engine) -> Iterator[None]:
    with ExitStack() as undo:
        undo.callback(engine.dispose)
        yield
        undo.pop_all()


def _revision(engine: Engine, address: Address) -> str | None:
    """Read the store's revision in one statement; None where no caliban after 0.4.2 wrote it."""
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
            f"the experiment store {address.location} is not opened: a newer caliban than this one upgraded it",
            cause=f"the store is at revision {revision}; this caliban knows {', '.join(REVISIONS)}",
            hint="pip install --upgrade caliban",
        )
    return revision


def _check_folder(folder: Path) -> None:
    if folder.name == DEFAULT_FOLDER:
        folder = folder.parent
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise _no_permission(folder, error) from error
    if not is_folder:
        raise StoreError(
            "store-folder-missing",
            f"the experiment store is not opened: there is no folder {folder}",
            hint="make it, or correct CALIBAN_DB_URL",
        )


def _file_exists(path: Path) -> bool:
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _no_permission(path, error) from error
    return True


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # SQLite writes its journal beside the file. Better told now than after a job was submitted.
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"no permission to write in the folder {path.parent}")
    except OSError as error:
        raise _no_permission(path, error) from error


def _no_permission(path: Path, error: OSError) -> StoreError:
    return StoreError(
        "store-no-permission",
        f"the experiment store {path} cannot be opened",
        cause=str(error),
        hint="check that it is a file, not a folder, and that you may read and write it and the folder that it is in",
    )
