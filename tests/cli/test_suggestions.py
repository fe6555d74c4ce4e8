from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.cli.suggestions import closest

FLAGS = ["--xgroup", "--dry_run", "--all_jobs", "--project_id", "--cloud_key", "--yes", "--platform"]


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("--xgruop", "--xgroup"),
        ("--dry-run", "--dry_run"),
        ("--dryrun", "--dry_run"),
        ("--Project-ID", "--project_id"),
        ("--plattform", "--platform"),
        ("--all", "--all_jobs"),
        ("--job", None),
        ("--jobs", None),
        ("--state", None),
        ("--lr", None),
        ("--y", None),
        ("--", None),
    ],
)
def test_a_name_is_close_if_it_starts_alike_or_differs_in_a_letter_or_two(word: str, match: str | None) -> None:
    assert closest(word, FLAGS) == match


def test_an_ambiguous_prefix_is_not_completed() -> None:
    assert closest("--no", ["--nogpu", "--no_cache"]) is None


@given(st.text(), st.lists(st.text(), max_size=5))
def test_a_match_is_one_of_the_names(word: str, names: list[str]) -> None:
    assert closest(word, names) in (None, *names)
