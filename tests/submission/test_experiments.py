from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import UsageError
from caliban.submission.experiments import MAX_ARGUMENT, MAX_EXPERIMENTS, parse_experiments

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_0123456789.", min_size=1, max_size=8)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
AXES = st.dictionaries(NAMES, st.lists(SCALARS, min_size=1, max_size=3), max_size=4)


def parsed(document: object) -> list[dict[str, Any]]:
    return list(parse_experiments(json.dumps(document), source="experiment.json"))


@given(AXES)
def test_there_are_as_many_experiments_as_the_product_of_the_lists(axes: dict[str, list[Any]]) -> None:
    assert len(parsed(axes)) == math.prod(len(values) for values in axes.values())


@given(AXES)
def test_every_experiment_has_every_flag_in_the_order_of_the_file(axes: dict[str, list[Any]]) -> None:
    assert {tuple(experiment) for experiment in parsed(axes)} == {tuple(axes)}


@given(AXES)
def test_every_value_comes_from_its_own_list(axes: dict[str, list[Any]]) -> None:
    for experiment in parsed(axes):
        for name, value in experiment.items():
            assert any(value == listed and type(value) is type(listed) for listed in axes[name])


@given(AXES)
def test_the_last_key_varies_fastest(axes: dict[str, list[Any]]) -> None:
    numbered = {name: list(range(len(values))) for name, values in axes.items()}
    rows = [tuple(experiment.values()) for experiment in parsed(numbered)]
    assert rows == sorted(rows)


@given(AXES, st.lists(st.tuples(SCALARS, SCALARS), min_size=1, max_size=4))
def test_the_flags_of_a_compound_key_vary_together(axes: dict[str, list[Any]], rows: list[tuple[Any, Any]]) -> None:
    document = {**axes, "[A,B]": [list(row) for row in rows]}
    experiments = parsed(document)
    pairs = [(experiment["A"], experiment["B"]) for experiment in experiments]
    assert [repr(pair) for pair in pairs[: len(rows)]] == [repr(row) for row in rows]
    assert len(experiments) == len(rows) * math.prod(len(values) for values in axes.values())


@given(AXES)
def test_comments_and_trailing_commas_change_nothing(axes: dict[str, list[Any]]) -> None:
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)} // why" for name, values in axes.items())
    text = "# what\n{\n" + lines.replace(" // why,", ", // why") + (" \n," if axes else "") + "\n/* end */ }\n"
    assert parse_experiments(text, source="x") == parsed(axes)


@given(st.lists(AXES, min_size=1, max_size=3))
def test_a_list_of_objects_is_expanded_in_order(entries: list[dict[str, list[Any]]]) -> None:
    assert parsed(entries) == [experiment for entry in entries for experiment in parsed(entry)]


@given(st.dictionaries(NAMES, SCALARS, max_size=4))
def test_single_values_are_one_experiment(flags: dict[str, Any]) -> None:
    assert parsed(flags) == [flags]


def test_the_example_of_the_documentation_is_six_experiments() -> None:
    document = {"rate": [0.1, 0.01, 0.001], "[width,depth]": [[64, 2], [128, 4]], "verbose": True}
    assert parsed(document)[:3] == [
        {"rate": 0.1, "width": 64, "depth": 2, "verbose": True},
        {"rate": 0.1, "width": 128, "depth": 4, "verbose": True},
        {"rate": 0.01, "width": 64, "depth": 2, "verbose": True},
    ]


@pytest.mark.parametrize(
    ("document", "experiments"),
    [
        ({}, [{}]),
        ({"[a,b]": [[1, 2]]}, [{"a": 1, "b": 2}]),
        ({"[a,b]": [1, 2]}, [{"a": 1, "b": 2}]),
        ({"[ a , b ]": [[1, 2]]}, [{"a": 1, "b": 2}]),
        ({"[a]": [[1], [2]]}, [{"a": 1}, {"a": 2}]),
        ({"a": [True, False]}, [{"a": True}, {"a": False}]),
        ({"a": ""}, [{"a": ""}]),
        ({"a-b": 1}, [{"a-b": 1}]),
    ],
)
def test_unusual_files_are_valid(document: object, experiments: list[dict[str, object]]) -> None:
    assert parsed(document) == experiments


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (3, "experiment.json: expected an object or a list of objects, got a number"),
        (None, "experiment.json: expected an object or a list of objects, got null"),
        ("a", "experiment.json: expected an object or a list of objects, got a string"),
        (True, "experiment.json: expected an object or a list of objects, got true or false"),
        ([], "experiment.json: the list of experiments is empty"),
        ([{}, 3], "experiment.json, entry 2: expected an object, got a number"),
        ([{}, []], "experiment.json, entry 2: expected an object, got a list"),
        ({"a": []}, 'experiment.json, key "a": the list of values is empty'),
        ({"a": None}, 'experiment.json, key "a": expected a string, number, true or false, got null'),
        ({"a": {}}, 'experiment.json, key "a": expected a string, number, true or false, got an object'),
        ({"a": [1, [2]]}, 'experiment.json, key "a": expected a string, number, true or false, got a list'),
        ([{}, {"a": None}], 'experiment.json, entry 2, key "a": expected a string, number, true or false, got null'),
        ({"--a": 1}, 'experiment.json, key "--a": write the flag without dashes: "a"'),
        ({"": 1}, 'experiment.json, key "": invalid flag name'),
        ({"a b": 1}, 'experiment.json, key "a b": invalid flag name'),
        ({"a=1": 1}, 'experiment.json, key "a=1": invalid flag name'),
        ({"[a,]": [[1, 2]]}, 'experiment.json, key "[a,]": invalid flag name'),
        ({"[]": [[]]}, 'experiment.json, key "[]": invalid flag name'),
        ({"[a,-b]": [[1, 2]]}, 'experiment.json, key "[a,-b]": write the flag without dashes: "b"'),
        ({"[a,a]": [[1, 2]]}, 'experiment.json, key "[a,a]": duplicate flag'),
        ({"[a,b]": 3}, 'experiment.json, key "[a,b]": expected a list of lists, with one value for each of a, b'),
        ({"[a,b]": []}, 'experiment.json, key "[a,b]": expected a list of lists, with one value for each of a, b'),
        (
            {"[a,b]": [[1, 2], [3]]},
            'experiment.json, key "[a,b]", row 2: expected one value for each of a, b, got 1',
        ),
        (
            {"[a,b]": [[1, None]]},
            'experiment.json, key "[a,b]", row 1: expected a string, number, true or false, got null',
        ),
        ({"a": 1, "[a,b]": [[1, 2]]}, 'experiment.json, key "[a,b]": the flag a is already set by another key'),
        ({"[a,b]": [[1, 2]], "b": 1}, 'experiment.json, key "b": the flag b is already set by another key'),
    ],
)
def test_an_error_names_file_entry_and_key(document: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(document)
    assert (caught.value.id, caught.value.message) == ("malformed-experiments", message)


@pytest.mark.parametrize(
    ("document", "count"),
    [
        ({f"f{number}": list(range(1000)) for number in range(3)}, "1,000,000,000"),
        ([{"a": list(range(60_000))}] * 2, "120,000"),
        ([{}] * 100_001, "100,001"),
        ({"[a,b]": [[1, 2]] * 100_001}, "100,001"),
        ({f"f{number}": [1, 2] for number in range(50_000)}, "more than 10^15"),
    ],
    ids=["product", "sum", "empty", "compound", "keys"],
)
def test_too_many_experiments_are_counted_and_not_expanded(
    document: object, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itertools, "product", pytest.fail)
    with pytest.raises(UsageError, match=rf"^experiment\.json: {re.escape(count)} experiments$") as caught:
        parsed(document)
    assert (caught.value.id, "at most 100,000" in (caught.value.cause or "")) == ("too-many-experiments", True)


def test_flags_that_would_fill_the_memory_are_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itertools, "product", pytest.fail)
    with pytest.raises(UsageError, match="more than 500 MB") as caught:
        parsed({"a": list(range(1000)), **{f"f{number}": 1 for number in range(5000)}})
    assert caught.value.id == "too-many-experiments"


def test_the_largest_file_that_is_possible_is_expanded() -> None:
    assert len(parsed({"a": list(range(1000)), "b": list(range(100))})) == MAX_EXPERIMENTS


@pytest.mark.parametrize(("length", "is_possible"), [(MAX_ARGUMENT, True), (MAX_ARGUMENT + 1, False)])
def test_a_value_is_no_longer_than_an_argument_of_a_process(length: int, is_possible: bool) -> None:
    document = {"a": "é" * (length // 2) + "x" * (length % 2)}
    if is_possible:
        assert parsed(document) == [document]
        subprocess.run(["true", document["a"]], check=True)
    else:
        with pytest.raises(UsageError, match='key "a": a value of 131,072 bytes; Linux allows 131,071'):
            parsed(document)


@pytest.mark.parametrize("document", [{"-" + "a" * 10**6: 1}, {"a " * 10**5: 1}, {"[" + "a," * 10**5 + "]": 1}])
def test_an_error_about_a_huge_key_is_short(document: object) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(document)
    assert len(caught.value.message) < 1000


def test_the_example_in_the_hint_is_valid() -> None:
    with pytest.raises(UsageError) as caught:
        parsed(3)
    example = str(caught.value.hint).removeprefix("for example: ")
    assert len(parse_experiments(example, source="the hint")) == 4


def test_invalid_json_is_reported_with_line_and_column() -> None:
    with pytest.raises(UsageError, match=r"^experiment\.json: invalid JSON at line 2, column 3$") as caught:
        parse_experiments("{\n  sleep: 1}", source="experiment.json")
    assert caught.value.id == "malformed-json"
