"""Keys in portions: databases limit the parameters of a statement, SQLite to 32,766, PostgreSQL to 65,535."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

MAX_KEYS = 10_000
"""Keys of one statement, at most."""

_K = TypeVar("_K")


def chunks(keys: Sequence[_K], size: int = MAX_KEYS) -> Iterator[Sequence[_K]]:
    """Yield the keys, at most ``size`` at a time; nothing for none."""
    return (keys[start : start + size] for start in range(0, len(keys), size))
