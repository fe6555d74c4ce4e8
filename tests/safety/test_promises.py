"""The tests that docs/promises.md names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parent.parent.parent
ROWS = [line for line in (CLONE / "docs" / "promises.md").read_text("utf-8").splitlines() if line.startswith("| ")]
PROMISES = [row for row in ROWS if not row.startswith(("| promise ", "| --- "))]


@pytest.mark.parametrize("promise", PROMISES)
def test_the_tests_of_each_promise_exist(promise: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promise)

    functions = {file: _functions(CLONE / file) for file, _ in named}

    assert named, "no test is named"
    assert [f"{file}::{name}" for file, name in named if name not in functions[file]] == []


def test_promises_are_found() -> None:
    assert len(PROMISES) > 15


def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
