"""Amounts of resources as Kubernetes writes them: ``8Gi``, ``119000M``, ``1500m``.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

from caliban.platforms.resources import scaled

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")
_QUANTITY = re.compile(r"(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:([eE][+-]?\d{1,2})|([KMGTPE]i|[mkMGTPE]))?")


def amount(quantity: object) -> Decimal | None:
    """Return the number of bytes, or of CPUs; None for what is no quantity."""
    parsed = _parsed(quantity)
    if parsed is None:
        return None
    number, unit = parsed
    if unit in _BINARY:
        return number * Decimal(1024) ** _BINARY.index(unit)
    return number * Decimal(1000) ** (_DECIMAL.index(unit) - 1)


def multiplied(quantity: object, factor: Decimal) -> str | None:
    """Return a quantity multiplied and rounded up, in its own unit or the next smaller one.

    Returns:
        None for what is no quantity, and for nothing.
    """
    parsed = _parsed(quantity)
    if parsed is None or not parsed[0]:
        return None
    number, unit = parsed
    if unit == "m":  # thousandths of a byte
        number, unit = number / 1000, ""
    units, step = (_BINARY, 1024) if unit in _BINARY else (_DECIMAL[1:], 1000)
    value, unit = scaled(number, unit, factor, units, step)
    return f"{int(value)}{unit}"


def _parsed(quantity: object) -> tuple[Decimal, str] | None:
    if isinstance(quantity, bool) or not isinstance(quantity, str | int | float):
        return None
    match = _QUANTITY.fullmatch(str(quantity).removeprefix("+"))
    if match is None:
        return None
    return Decimal(f"{match[1]}{match[2] or ''}"), match[3] or ""
