"""The difference of two texts, as ``patch`` and ``git apply`` read it."""

from __future__ import annotations

import subprocess
from difflib import unified_diff
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caliban.resubmit.text_diff import count_changes, hunks, lines_of
from tests.sampling import examples

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "\n", "c\r\n", "\tx = 1\n"]), max_size=30).map("".join)


@given(TEXTS, TEXTS)
@settings(max_examples=examples(200))
def test_hunks_change_as_many_lines_as_are_counted(before: str, after: str) -> None:
    old, new = lines_of(before.encode()), lines_of(after.encode())
    shown = list(hunks(old, new))
    signs = [line[:1] for line in shown if not line.startswith("@@")]
    assert (signs.count("+"), signs.count("-")) == count_changes(old, new)
    assert len(new) - len(old) == signs.count("+") - signs.count("-")


def test_ranges_are_those_of_difflib() -> None:
    old = [f"{number}\n" for number in range(100)]
    new = [*old[:10], "x\n", *old[12:60], *old[61:]]
    expected = [line.rstrip("\n") for line in unified_diff(old, new)][2:]
    assert list(hunks(old, new)) == expected


@pytest.mark.parametrize(("before", "after"), [("a\nb\n", "a\nc"), ("a\n" * 20, "a\n" * 9 + "b\n" * 9)])
def test_git_applies_a_difference(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "train.py").write_text(before)
    text = "\n".join(["--- a/train.py", "+++ b/train.py", *hunks(lines_of(before.encode()), lines_of(after.encode()))])
    subprocess.run(["git", "apply", "--unsafe-paths", "-"], cwd=tmp_path, input=text + "\n", text=True, check=True)
    assert (tmp_path / "train.py").read_text() == after


def test_long_texts_that_differ_everywhere_are_replaced_as_a_whole() -> None:
    old, new = ["a\n", "b\n"] * 30_000, ["b\n", "a\n"] * 30_000
    assert count_changes(["x\n", *old], ["y\n", *new[:-1], "z\n"]) == (60_001, 60_001)
