"""Read TOML documents, and the names in requirements that they have."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import TOMLDecodeError, loads
else:
    from tomli import TOMLDecodeError, loads


_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*(.*)", re.DOTALL)


def parse_toml(content: bytes) -> Mapping[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: malformed.
    """
    try:
        document: dict[str, Any] = loads(content.decode("utf-8-sig"))
    except (TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document


def table(value: object, *keys: str) -> Mapping[str, Any]:
    """Return a table of a TOML document; an empty one where it is missing or no table."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def texts(value: object) -> list[str]:
    """Return the strings of a list, or a string as a list."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def normalized(name: str) -> str:
    """Return the normal form of the name of a project or extra (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def requirement_name(requirement: str) -> str:
    """Return the normalized name of a requirement; "" for a malformed one."""
    match = _NAME.match(requirement)
    return normalized(match[1]) if match else ""


def split_requirement(requirement: str) -> tuple[str, str, str]:
    """Return the name, the extras (``[a,b]`` or "") and the rest of a requirement."""
    match = _NAME.match(requirement)
    if match is None:
        return "", "", requirement
    return match[1], f"[{match[2]}]" if match[2] else "", match[3]
