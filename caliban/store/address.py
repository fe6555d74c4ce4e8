"""Find out where the store is: from the environment to a checked URL."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from caliban.errors import StoreError

DEFAULT_DIRECTORY = ".caliban"
DEFAULT_FILE = "caliban.db"
URL_VARIABLE = "CALIBAN_DB_URL"

_FORMS = "sqlite:////absolute/path/caliban.db or postgresql://user:password@host:5432/database"
_SET_URL = f"set {URL_VARIABLE} to {_FORMS}, or unset it to use the store in your home directory"
_POSTGRESQL_DRIVER = "postgresql+psycopg"


@dataclass(frozen=True)
class SqliteAddress:
    """A file, which may not exist yet."""

    path: Path
    secrets: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file itself, where ``path`` is a symbolic link: SQLite keeps its journal next to that."""
        return Path(os.path.realpath(self.path))

    @property
    def location(self) -> str:
        """The store's name in messages."""
        return str(self.path)


@dataclass(frozen=True)
class ServerAddress:
    """A database of a PostgreSQL server."""

    url: URL = field(repr=False)

    @property
    def location(self) -> str:
        """The store's name in messages: no password, and no options, which may contain one."""
        shown = URL.create("postgresql", self.url.username, None, self.url.host, self.url.port, self.url.database)
        return shown.render_as_string()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown."""
        options = (self.url.query.get(name) for name in ("password", "sslpassword"))
        found = (self.url.password, *options)
        return tuple(str(secret) for secret in found if secret)


Address = SqliteAddress | ServerAddress


def store_url(environ: Mapping[str, str], home: Path) -> str:
    """Return the URL of the user's store: ``$CALIBAN_DB_URL``, else that of a file in the home directory.

    ``postgres://`` and ``postgresql://``, also with the name of another driver, become ``postgresql+psycopg://``.
    The URL may contain a password.
    """
    url = environ.get(URL_VARIABLE, "")
    if not url:
        return f"sqlite:///{home / DEFAULT_DIRECTORY / DEFAULT_FILE}"
    return _with_our_driver(url)


def parse_address(url: str) -> Address:
    """Check the URL of a store, and that the driver of its database is installed.

    Raises:
        StoreError: ``store-url-malformed``, ``store-dialect-unknown``, ``postgresql-driver-missing``.
    """
    try:
        parsed = make_url(_with_our_driver(url))
    except (ArgumentError, ValueError):
        # The part that cannot be parsed may belong to a password: neither it nor the parser's message is shown.
        raise StoreError(
            "store-url-malformed",
            f"cannot open the experiment store: {URL_VARIABLE} is not a database URL",
            hint=_SET_URL,
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(
            "store-dialect-unknown",
            f"cannot open the experiment store: {parsed.drivername} is not supported, use SQLite or PostgreSQL",
            hint=_SET_URL,
        )
    if find_spec("psycopg") is None:
        raise StoreError(
            "postgresql-driver-missing",
            "cannot open the experiment store: the PostgreSQL driver is not installed",
            cause="the Python package psycopg is missing",
            hint="pip install 'caliban[postgresql]'",
        )
    if url.count("@") > 1:
        # The parser would take part of a password for the host name, which is shown.
        raise StoreError(
            "store-url-malformed",
            f"cannot open the experiment store: {URL_VARIABLE} has more than one @",
            hint="in user names and passwords, write %40 for @, %2F for / and %3A for :",
        )
    return ServerAddress(parsed)


def _sqlite(url: URL) -> SqliteAddress:
    if url.host or not url.database or url.database.startswith((":", "file:")) or url.query:
        raise StoreError(
            "store-url-malformed",
            f"cannot open the experiment store: {URL_VARIABLE} does not name a file",
            cause="stores in memory and options after the path are not supported",
            hint="write sqlite:////absolute/path/caliban.db: four slashes before an absolute path, three otherwise",
        )
    try:
        path = Path(url.database).expanduser().absolute()
        if _is_special(path):
            raise OSError(f"{path} is a pipe, a socket or a device")  # SQLite would wait for a pipe without an end
        return SqliteAddress(path)
    except (OSError, RuntimeError) as error:  # the home directory of an unknown user; a directory that was removed
        raise StoreError(
            "store-url-malformed",
            f"cannot open the experiment store: {URL_VARIABLE} does not name a file",
            cause=str(error),
            hint="write sqlite:////absolute/path/caliban.db",
        ) from error


def _is_special(path: Path) -> bool:
    """Return whether there is a pipe, a socket or a device; errors are reported when the store is opened."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _with_our_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower().partition("+")[0] in ("postgres", "postgresql"):
        return f"{_POSTGRESQL_DRIVER}://{rest}"
    return url
