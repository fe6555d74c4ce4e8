"""What ``make test`` hands to the tests in environment variables."""

from __future__ import annotations

import os

import pytest


def required_variable(name: str) -> str:
    """Return a variable that ``make test`` sets; fail the test when it is not set."""
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set; run the tests with: make test")
    return value
