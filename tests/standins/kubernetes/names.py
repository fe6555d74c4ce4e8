"""Syntax of names, labels and quantities, with the words in which the API refuses them.

Sources: ``staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go``, ``.../api/resource/quantity.go`` and
``staging/src/k8s.io/apiserver/pkg/storage/names/generate.go`` of kubernetes/kubernetes.
"""

from __future__ import annotations

import re
import secrets
from decimal import Decimal

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_WORD = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_GENERATED = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_BASE = 58
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?")
_SUFFIXES = {
    "": Decimal(1),
    **{letter + "i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{letter: Decimal(1000) ** -power for power, letter in enumerate("mun", 1)},
}


def generated_name(base: str) -> str:
    """``base`` and five random letters."""
    return base[:_LONGEST_BASE] + "".join(secrets.choice(_GENERATED) for _ in range(5))


def subdomain_problem(name: str) -> str | None:
    """What is wrong with the name of an object."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    if re.fullmatch(_SUBDOMAIN, name):
        return None
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
    )


def label_problem(name: str) -> str | None:
    """What is wrong with the name of a container or a volume."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    if re.fullmatch(_LABEL, name):
        return None
    return (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
    )


def is_qualified_name(key: str) -> bool:
    """Whether a text may be the key of a label: ``name`` or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or "/" in prefix or subdomain_problem(prefix)):
        return False
    return len(name) <= 63 and re.fullmatch(_WORD, name) is not None


def key_problem(key: str) -> str | None:
    """What is wrong with the key of a label."""
    if is_qualified_name(key):
        return None
    if len(key.rpartition("/")[2]) > 63:
        return "name part must be no more than 63 characters"
    return (
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        f"alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_WORD}')"
    )


def is_label_value(value: str) -> bool:
    """Whether a text may be the value of a label."""
    return value_problem(value) is None


def value_problem(value: str) -> str | None:
    """What is wrong with the value of a label."""
    if len(value) > 63:
        return "must be no more than 63 characters"
    if re.fullmatch(f"({_WORD})?", value):
        return None
    return (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
        f"validation is '({_WORD})?')"
    )


def quantity(text: object) -> Decimal | None:
    """The number that ``500m``, ``64Gi``, ``1e3`` or ``2`` stands for; None where it stands for none."""
    found = _QUANTITY.fullmatch(str(text)) if not isinstance(text, bool) else None
    if found is None:
        return None
    suffix = found[2] or ""
    factor = _SUFFIXES.get(suffix)
    return Decimal(found[1]) * (factor if factor is not None else Decimal(10) ** int(suffix[1:]))
