"""Where the store is: from the environment to a checked URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from caliban.errors import StoreError

DEFAULT_FOLDER = ".caliban"
DEFAULT_FILE = "caliban.db"
URL_VARIABLE = "CALIBAN_DB_URL"

_FORMS = "sqlite:////absolute/path/caliban.db or postgresql://user:password@host:5432/database"
_SET_URL = f"set {URL_VARIABLE} to {_FORMS}, or unset it for the store in your home folder"
_POSTGRESQL_DRIVER = "postgresql+psycopg"


@dataclass(frozen=True)
class SqliteAddress:
    """A file, which may not exist yet."""

    path: Path
    secrets: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The store's name for people."""
        return str(self.path)


@dataclass(frozen=True)
class ServerAddress:
    """A database of a PostgreSQL server."""

    url: URL = field(repr=False)

    @property
    def location(self) -> str:
        """The store's name for people: no password, and no options, which may hold one."""
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
    """Name the store that a person uses: ``$CALIBAN_DB_URL``, else a file in the home folder.

    ``postgres://`` and ``postgresql://``, also with another driver's name behind them, become ``postgresql+psycopg://``.
    The text may hold a password.
    """
    url = environ.get(URL_VARIABLE, "")
    if not url:
        return f"sqlite:///{home / DEFAULT_FOLDER / DEFAULT_FILE}"
    return _with_our_driver(url)


def parse_address(url: str) -> Address:
    """Check a store's URL, and that what it takes to open it is installed.

    Raises:
        StoreError: ``store-url-malformed``, ``store-dialect-unknown``, ``postgresql-driver-missing``.
    """
    try:
        parsed = make_url(_with_our_driver(url))
    except (ArgumentError, ValueError):
        # What was not understood may be part of a password: neither it nor the parser's word about it is shown.
        raise StoreError(
            "store-url-malformed",
            f"the experiment store is not opened: {URL_VARIABLE} is not a database URL",
            hint=_SET_URL,
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(
            "store-dialect-unknown",
            f"the experiment store is not opened: caliban keeps it in SQLite or PostgreSQL, not in {parsed.drivername}",
            hint=_SET_URL,
        )
    if find_spec("psycopg") is None:
        raise StoreError(
            "postgresql-driver-missing",
            "the experiment store is not opened: the driver for PostgreSQL is not installed",
            cause="there is no Python package psycopg",
            hint="pip install 'caliban[postgresql]'",
        )
    if url.count("@") > 1:
        # The parser would take a part of a password for the host's name, which is shown.
        raise StoreError(
            "store-url-malformed",
            f"the experiment store is not opened: {URL_VARIABLE} has more than one @",
            hint="in names and passwords, write %40 for @, %2F for / and %3A for :",
        )
    return ServerAddress(parsed)


def _sqlite(url: URL) -> SqliteAddress:
    if url.host or not url.database or url.database.startswith((":", "file:")) or url.query:
        raise StoreError(
            "store-url-malformed",
            f"the experiment store is not opened: {URL_VARIABLE} does not name a file",
            cause="a store in memory would be forgotten, and options behind the path are not supported",
            hint="write sqlite:////absolute/path/caliban.db: four slashes before an absolute path, three otherwise",
        )
    return SqliteAddress(Path(url.database).expanduser().absolute())


def _with_our_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower().partition("+")[0] in ("postgres", "postgresql"):
        return f"{_POSTGRESQL_DRIVER}://{rest}"
    return url
