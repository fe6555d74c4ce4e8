"""Names and labels of jobs, as the training services accept them."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.platforms.google.labels import candidate_names, flags, full_name, job_base, label_key, label_value
from tests.platforms.google.helpers import TOKEN

NOW = datetime(2020, 5, 29, 11, 2, 59)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--foo", "3", "--sleep=2"], [("foo", "3"), ("sleep", "2")]),
        (["--verbose", "--lr", "-0.1", "-v"], [("verbose", "true"), ("lr", "-0.1"), ("v", "true")]),
        (["--shift", "-.5", "--last"], [("shift", "-.5"), ("last", "true")]),
        (["data.csv", "-", "-1"], []),
        (["--", "--x="], [("x", "")]),
    ],
)
def test_flags_are_read_as_a_program_would(words: Sequence[str], expected: list[tuple[str, str]]) -> None:
    assert list(flags(words)) == expected


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("Learning.Rate", "learning_rate", "learning_rate"),
        ("0.01", "", "0_01"),
        ("/data/Set 1", "dataset1", "dataset1"),
        ("_x-1", "x-1", "_x-1"),
        ("é", "", ""),
        ("a" * 70, "a" * 63, "a" * 63),
    ],
)
def test_labels_are_reduced_to_what_the_services_accept(text: str, key: str, value: str) -> None:
    assert (label_key(text), label_value(text)) == (key, value)


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ("caliban_totoro_2", "caliban_totoro_20200529_110259_2"),
        ("caliban_totoro_20200529_105338_1", "caliban_totoro_20200529_110259_1"),
        ("resnet", "resnet_20200529_110259_01234567"),
        ("resnet_50_3", "resnet_50_20200529_110259_3"),
    ],
)
def test_a_name_has_base_time_and_index(recorded: str, expected: str) -> None:
    assert full_name(recorded, TOKEN, NOW) == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("caliban_totoro", "caliban_totoro"),
        ("caliban_j.doe@example.com", "caliban_j_doe_example_com"),
        ("50 layers", "caliban_50_layers"),
        ("___", "caliban"),
        ("a" * 200, "a" * 80),
    ],
)
def test_a_base_has_letters_digits_and_underscores(name: str, base: str) -> None:
    assert job_base(name) == base


@given(st.text(alphabet=string.ascii_letters + string.digits + "_-. ", max_size=300))
def test_every_candidate_name_is_accepted_by_the_service(name: str) -> None:
    first = full_name(job_base(name) + "_123456789", TOKEN, NOW)
    for candidate in candidate_names(first, TOKEN):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,127}", candidate)
