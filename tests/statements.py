"""Compiles each SQL statement once per process: every store has an engine of its own, with an empty cache."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event


class _Statements(dict[tuple[Any, ...], Any]):
    """Compiled statements of all engines; SQLAlchemy's keys begin with the engine's own dialect."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


def share_compiled_statements() -> None:
    """Let all engines of the process use the same compiled statements.

    https://docs.sqlalchemy.org/en/20/core/connections.html#sqlalchemy.engine.Connection.execution_options.params.compiled_cache
    """
    statements = _Statements()

    def use(connection: Connection) -> None:
        connection.execution_options(compiled_cache=statements)

    event.listen(Engine, "engine_connect", use)
