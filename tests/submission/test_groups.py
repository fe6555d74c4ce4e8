from __future__ import annotations

from pathlib import Path

import pytest

from caliban.records import JobStatus
from caliban.store.database import Access, Store, open_store
from caliban.submission.groups import unknown_group
from tests.builders import add_group
from tests.fakes import HeardReporter


def told(store: Store, name: str, user: str = "totoro") -> tuple[str, str | None]:
    with store.reading() as session:
        error = unknown_group(session, store, user, name)
    return error.message, error.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resubmit_tset", "did you mean resubmit_test?"),
        ("resubmit", "did you mean resubmit_test?"),
        ("zzz", "your experiment groups: resubmit_test, baseline"),
    ],
)
def test_groups_that_are_close_are_named(name: str, hint: str, store: Store) -> None:
    add_group(store, JobStatus.FAILED, name="resubmit_test")
    add_group(store, JobStatus.FAILED, name="baseline")
    assert told(store, name) == (f"totoro has no experiment group {name}", hint)


def test_several_close_groups_are_all_named(store: Store) -> None:
    for number in (1, 2):
        add_group(store, None, name=f"sweep_{number}")
    assert told(store, "sweep_3")[1] == "did you mean sweep_2 or sweep_1?"


def test_groups_of_others_are_not_named(store: Store) -> None:
    add_group(store, JobStatus.FAILED, user="mei", name="resubmit_test")
    hint = told(store, "resubmit_tset")[1]
    assert hint == f"{store.location} has no experiment groups of totoro; set $CALIBAN_USER to look for another user's"


def test_only_the_ten_newest_groups_are_named(store: Store) -> None:
    for number in range(12):
        add_group(store, None, name=f"sweep{number:02}")
    assert told(store, "qqqqqq")[1] == "your experiment groups: " + ", ".join(f"sweep{n:02}" for n in range(2, 12))


def test_a_store_that_is_not_there_yet_is_told(tmp_path: Path, heard: HeardReporter) -> None:
    with open_store(f"sqlite:///{tmp_path}/caliban.db", Access.READ, heard) as store:
        hint = told(store, "x")[1]
    assert hint == f"there is no experiment store yet at {tmp_path}/caliban.db; caliban run makes one"
