from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import StoreError
from caliban.store.address import ServerAddress, SqliteAddress, parse_address, store_url

HOME = Path("/home/totoro")


def test_without_a_variable_the_store_is_in_the_home_directory() -> None:
    assert store_url({}, HOME) == "sqlite:////home/totoro/.caliban/caliban.db"


def test_an_empty_variable_is_ignored() -> None:
    assert store_url({"CALIBAN_DB_URL": ""}, HOME) == store_url({}, HOME)


def test_the_variable_names_the_store() -> None:
    assert store_url({"CALIBAN_DB_URL": "sqlite:////data/x.db"}, HOME) == "sqlite:////data/x.db"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_name_of_postgresql_is_used_with_psycopg(scheme: str) -> None:
    assert store_url({"CALIBAN_DB_URL": f"{scheme}://u:p@h/d"}, HOME) == "postgresql+psycopg://u:p@h/d"


def test_a_path_in_the_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    assert parse_address("sqlite:///~/x.db") == SqliteAddress(HOME / "x.db")


@pytest.mark.parametrize("url", ["nonsense", "postgresql://u:hunter2@h:port/d", "sqlite:///x.db?mode=ro"])
def test_a_malformed_url_is_reported(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_address(url)
    assert caught.value.id == "store-url-malformed"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_a_store_in_memory_is_rejected(url: str) -> None:
    with pytest.raises(StoreError, match="does not name a file"):
        parse_address(url)


def test_a_password_in_a_malformed_url_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        parse_address("postgresql://u:p@hunter2:hunter2/d")
    assert "hunter2" not in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"


def test_another_database_is_rejected_by_name() -> None:
    with pytest.raises(StoreError, match="mysql is not supported") as caught:
        parse_address("mysql://u:p@h/d")
    assert caught.value.id == "store-dialect-unknown"


def test_a_missing_driver_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str, *_rest: Any) -> None:
        assert name == "psycopg"

    monkeypatch.setattr("caliban.store.address.find_spec", find_spec)
    assert importlib.util.find_spec("psycopg") is not None
    with pytest.raises(StoreError) as caught:
        parse_address("postgresql://u@h/d")
    assert (caught.value.id, caught.value.hint) == ("postgresql-driver-missing", "pip install 'caliban[postgresql]'")


def test_a_server_is_shown_without_password_and_options() -> None:
    address = parse_address("postgresql://mei:hunter2@db.example.com:5432/lab?password=hunter3&sslmode=require")
    assert address.location == "postgresql://mei@db.example.com:5432/lab"


def test_every_password_in_a_url_is_a_secret() -> None:
    address = parse_address("postgresql://mei:hun%40ter2@db.example.com/lab?password=hunter3")
    assert isinstance(address, ServerAddress)
    assert address.secrets == ("hun@ter2", "hunter3")


def test_the_home_directory_of_an_unknown_user_is_no_path_of_a_store() -> None:
    with pytest.raises(StoreError) as caught:
        parse_address("sqlite:///~no-such-user/caliban.db")
    assert (caught.value.id, bool(caught.value.hint)) == ("store-url-malformed", True)


def test_a_pipe_is_no_store(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError) as caught:
        parse_address(f"sqlite:///{tmp_path / 'pipe'}")
    assert "is a pipe, a socket or a device" in (caught.value.cause or "")
