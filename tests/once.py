"""What a command does once is done once per process of the tests, in which many commands run."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import serialization
from sqlalchemy import Connection, Engine, event


class _Statements(dict[tuple[Any, ...], Any]):
    """Compiled statements of all engines; SQLAlchemy's keys begin with the engine's own dialect."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


def share_compiled_statements() -> None:
    """Compile each SQL statement once: every store has an engine of its own, with an empty cache.

    https://docs.sqlalchemy.org/en/20/core/connections.html#sqlalchemy.engine.Connection.execution_options.params.compiled_cache
    """
    statements = _Statements()

    def use(connection: Connection) -> None:
        connection.execution_options(compiled_cache=statements)

    event.listen(Engine, "engine_connect", use)


def load_keys_without_checks() -> None:
    """Skip the check of the primes of service account keys, which takes a third of a command's time."""
    load = serialization.load_pem_private_key

    def load_unchecked(data: bytes, password: bytes | None, backend: Any = None) -> Any:
        return load(data, password, backend, unsafe_skip_rsa_key_validation=True)

    vars(serialization)["load_pem_private_key"] = load_unchecked
