"""The syntax of labels and of names. Pure.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
"""

from __future__ import annotations

import re

_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_SUBDOMAIN_LENGTH = 253


def is_label_key(key: str) -> bool:
    """Return whether ``key`` can be the key of a label: ``team``, ``example.com/team``."""
    prefix, separator, name = key.rpartition("/")
    return (not separator or is_subdomain(prefix)) and bool(name) and is_label_value(name)


def is_label_value(value: str) -> bool:
    """Return whether ``value`` can be the value of a label."""
    return _VALUE.fullmatch(value) is not None


def is_subdomain(name: str) -> bool:
    """Return whether ``name`` can be the name of most objects."""
    return len(name) <= _SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(name) is not None
