"""Flags that platforms add to the commands, and the way to their values. Imports nothing heavy: ``--help`` pays for it.

The values reach a platform by :attr:`caliban.platforms.context.PlatformContext.options`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from caliban.errors import UsageError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?"


def add_project_id(parser: argparse.ArgumentParser) -> None:
    """Add ``--project_id PROJECT_ID``."""
    parser.add_argument(
        "--project_id",
        help="ID of the GCloud AI Platform/GKE project to use for Cloud job submission and image persistence. "
        "(Defaults to $PROJECT_ID; errors if both the argument and $PROJECT_ID are empty.)",
    )


def add_cloud_key(parser: argparse.ArgumentParser) -> None:
    """Add ``--cloud_key CLOUD_KEY``."""
    parser.add_argument(
        "--cloud_key",
        type=Path,
        help="Path to GCloud service account key. (Defaults to $GOOGLE_APPLICATION_CREDENTIALS.)",
    )


def add_account_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say in whose name, and for which project, platforms are used."""
    add_project_id(parser)
    add_cloud_key(parser)


def project_id(options: Mapping[str, object]) -> str | None:
    """Return the value of ``--project_id``, or None."""
    value = options.get("project_id")
    return value if isinstance(value, str) and value else None


def cloud_key(options: Mapping[str, object]) -> Path | None:
    """Return the value of ``--cloud_key``, or None."""
    value = options.get("cloud_key")
    return value if isinstance(value, Path) else None


def add_label(parser: argparse.ArgumentParser) -> None:
    """Add ``-l KEY=VALUE``, ``--label KEY=VALUE``."""
    parser.add_argument(
        "-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="a label for the jobs; may be repeated"
    )


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--label`` by key.

    Raises:
        UsageError: ``malformed-label``.
    """
    labels = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError("malformed-label", f'expected KEY=VALUE, got "{text}"', hint="write --label team=vision")
        labels[key] = value
    return labels


def integer_at_least(least: int) -> Callable[[str], int]:
    """Return the ``type`` of a flag that takes an integer of ``least`` or more."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'expected an integer >= {least}, got "{text}"')
        return int(text)

    return parse


def duration_or_zero(text: str) -> int:
    """Return the seconds of what :func:`duration` takes, and 0 for ``0``, ``0s`` and so on; the ``type`` of a flag."""
    return 0 if re.fullmatch(r"0+[dhms]?", text, re.ASCII) else duration(text)


def duration(text: str) -> int:
    """Return the seconds of ``24h``, ``90m``, ``1h30m``, ``3600`` or ``3600s``; the ``type`` of a flag."""
    units = re.fullmatch(_DURATION, f"{text}s" if text.isdecimal() else text)
    counts = units.groups("0") if units else ()
    total = sum(int(count) * _SECONDS[unit] for unit, count in zip("dhms", counts, strict=False))
    if total < 1:
        raise argparse.ArgumentTypeError(f'expected a duration such as 24h, 90m, 1h30m or 3600, got "{text}"')
    return total
