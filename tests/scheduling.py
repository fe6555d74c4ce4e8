"""pytest-xdist: which worker runs which test.

Its own marker for this, ``xdist_group``, has no effect with pytest 9.2 and pytest-xdist 3.8.
"""

from __future__ import annotations

import pytest

TOGETHER = frozenset(
    {
        "tests/cli/test_lazy_imports.py",
        "tests/commands/test_many_jobs.py",
        "tests/commands/test_remote_morning.py",
        "tests/e2e/test_morning_after.py",
        "tests/test_schemas.py",
    }
)
"""Modules whose tests share a fixture that takes long: one worker runs all of them."""


def scope_of(nodeid: str) -> str:
    """Return what the tests have in common that one worker runs."""
    module = nodeid.partition("::")[0]
    return module if module in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Return a scheduler that gives a worker all tests of a scope, and else whatever comes next."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "load" else None
