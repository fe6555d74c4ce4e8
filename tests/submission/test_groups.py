from __future__ import annotations

from pathlib import Path

import pytest

from caliban.errors import CalibanError
from caliban.records import JobStatus
from caliban.store.database import Access, Store, open_store
from caliban.submission.groups import read_group
from tests.builders import add_group
from tests.fakes import RecordingReporter


def error_of(store: Store, name: str) -> tuple[str, str, str | None]:
    with pytest.raises(CalibanError) as caught:
        read_group(store, "totoro", name)
    return caught.value.id, caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resubmit_tset", "did you mean resubmit_test?"),
        ("resubmit", "did you mean resubmit_test?"),
        ("zzz", "your experiment groups: resubmit_test, baseline"),
    ],
)
def test_groups_with_a_similar_name_are_suggested(name: str, hint: str, store: Store) -> None:
    add_group(store, JobStatus.FAILED, name="resubmit_test")
    add_group(store, JobStatus.FAILED, name="baseline")
    assert error_of(store, name) == ("unknown-xgroup", f'totoro has no experiment group "{name}"', hint)


def test_several_similar_names_are_suggested(store: Store) -> None:
    for number in (1, 2):
        add_group(store, None, name=f"sweep_{number}")
    assert error_of(store, "sweep_3")[2] == "did you mean sweep_2 or sweep_1?"


def test_groups_of_other_users_are_not_suggested(store: Store) -> None:
    add_group(store, JobStatus.FAILED, user="mei", name="resubmit_test")
    hint = error_of(store, "resubmit_tset")[2]
    assert hint == f"{store.location} has no experiment groups of totoro; set $CALIBAN_USER to another user's name"


def test_the_ten_newest_groups_are_listed(store: Store) -> None:
    for number in range(12):
        add_group(store, None, name=f"sweep{number:02}")
    assert error_of(store, "qqqqqq")[2] == "your experiment groups: " + ", ".join(f"sweep{n:02}" for n in range(2, 12))


def test_a_missing_store_is_reported(tmp_path: Path, reporter: RecordingReporter) -> None:
    with open_store(f"sqlite:///{tmp_path}/caliban.db", Access.READ, reporter) as store:
        hint = error_of(store, "x")[2]
    assert hint == f"there is no experiment store at {tmp_path}/caliban.db yet; caliban run creates one"
