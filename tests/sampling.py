"""``pytest --short``: every test, with a sample of its cases where it has many; ``--quick``: with one case.

Of the parameters of a test, each value is in some case of the sample of ``--short`` if there are at most six. Tests
that generate or enumerate their cases ask :func:`examples` and :func:`sample` how many to take. ``--quick`` leaves out
the tests that are marked ``slow``, too: those that take more than a second.

Generated cases are the same in each run, so that a failure is one of what is tested; ``--fuzz`` tries many others.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

_T = TypeVar("_T")

_CASES = 4
"""Cases of a sample, if no more are needed for the values of its parameters."""

_FEW_VALUES = 6
_FUZZ_FACTOR = 20

_is_short = False
_is_quick = False
_is_fuzz = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run one case of every test that is not slow")
    parser.addoption("--fuzz", action="store_true", help="generate many more examples, others in each run")
    parser.addoption("--short", action="store_true", help="run every test with a sample of its cases")


def pytest_configure(config: pytest.Config) -> None:
    """Set what tests read when they are imported."""
    global _is_short, _is_quick, _is_fuzz
    _is_fuzz = config.getoption("--fuzz")
    _is_quick = config.getoption("--quick")
    _is_short = _is_quick or config.getoption("--short")
    # no deadline: a shared machine may be slow
    settings.register_profile(
        "caliban",
        max_examples=examples(100),
        deadline=None,
        derandomize=not _is_fuzz,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("caliban")


def examples(count: int) -> int:
    """Return how many of ``count`` generated examples to try."""
    return max(5, count // 10) if _is_short else count * _FUZZ_FACTOR if _is_fuzz else count


def sample(items: Sequence[_T]) -> Sequence[_T]:
    """Return all items, or a few at equal distances, with the first and the last."""
    if not _is_short or len(items) <= _CASES:
        return items
    return [items[number * (len(items) - 1) // (_CASES - 1)] for number in range(_CASES)]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all cases but a sample of each test. The same sample in every process and on every machine."""
    if not _is_short:
        return
    kept: set[str] = set()
    in_order = sorted(items, key=_function)
    for _, cases in itertools.groupby(in_order, key=_function):
        kept.update(_sample_of_cases(list(cases)))
    if _is_quick:
        kept -= {item.nodeid for item in items if item.get_closest_marker("slow")}
    left_out = [item for item in items if item.nodeid not in kept]
    items[:] = [item for item in items if item.nodeid in kept]
    config.hook.pytest_deselected(items=left_out)


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _sample_of_cases(cases: Sequence[pytest.Item]) -> list[str]:
    if len(cases) <= (1 if _is_quick else _CASES):
        return [case.nodeid for case in cases]
    values = {case.nodeid: _values(case) for case in cases}
    if _is_quick:
        return [min(values, key=lambda name: zlib.crc32(name.encode()))]
    known = {value for of_case in values.values() for value in of_case}
    counts = Counter(parameter for parameter, _ in known)
    wanted = {value for value in known if counts[value[0]] <= _FEW_VALUES}
    kept: list[str] = []
    # the checksum of a case's name is as good as a random number: neighbours differ in one parameter only
    for name in sorted(values, key=lambda name: zlib.crc32(name.encode())):
        if len(kept) < _CASES or values[name] & wanted:
            kept.append(name)
            wanted -= values[name]
    return kept


def _values(case: pytest.Item) -> set[tuple[str, int]]:
    """Return the numbers of the values of all parameters."""
    callspec = getattr(case, "callspec", None)
    return set(callspec.indices.items()) if callspec else set()
