from __future__ import annotations

import pytest

from caliban.parameters import Match, parameters_of
from caliban.records import JsonObject
from tests.builders import an_experiment


def takes(condition: str, *args: str, **kwargs: object) -> bool:
    key, _, value = condition.partition("=")
    return Match(key, value).takes(an_experiment(args=args, kwargs=kwargs))


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("0.1", 0.1),
        ("0.10", 0.1),
        ("1e-1", 0.1),
        (".1", 0.1),
        ("1e-05", 0.00001),
        ("3", 3),
        ("3.0", 3),
        ("+3", 3),
        ("-1", -1),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("None", None),
        ("adam", "adam"),
        ("a b", "a b"),
        ("", ""),
        ("True", "true"),
        ("0.1", "1e-1"),
        ("a,b", "a,b"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_a_value_is_what_people_type(typed: str, value: object) -> None:
    assert takes(f"x={typed}", x=value)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("0.1", 0.11),
        ("1", True),
        ("0", False),
        ("true", 1),
        ("true", "yes"),
        ("true", False),
        ("", None),
        ("", 0),
        ("Adam", "adam"),
        ("ada", "adam"),
        ("9007199254740993", 9007199254740992),
        ("1e999999999999", 3),
        ("nan", "inf"),
        ("1_0", 10),
    ],
)
def test_another_value_is_not(typed: str, value: object) -> None:
    assert not takes(f"x={typed}", x=value)


@pytest.mark.parametrize(
    ("typed", "value", "is_taken"),
    [
        ("*", "anything", True),
        ("*", 3, True),
        ("0.*", 0.1, True),
        ("res*", "resnet50", True),
        ("res*", "unet", False),
        ("resnet??", "resnet50", True),
        ("resnet??", "resnet101", False),
        ("[ab]*", "abc", False),
        ("[ab]*", "[ab]c", True),
        ("t*", True, True),
        ("a*c", "a\nc", True),
        ("*a" * 30 + "b", "a" * 5000, False),
    ],
)
def test_stars_and_question_marks_are_wildcards(typed: str, value: object, is_taken: bool) -> None:
    assert takes(f"x={typed}", x=value) == is_taken


def test_commas_separate_alternatives() -> None:
    assert [takes("lr=0.1,1e-2", lr=value) for value in (0.1, 0.01, 0.001)] == [True, True, False]


@pytest.mark.parametrize(
    ("args", "parameters"),
    [
        (("--foo", "3"), [("foo", "3")]),
        (("--foo=3",), [("foo", "3")]),
        (("--foo=a=b",), [("foo", "a=b")]),
        (("--foo=",), [("foo", "")]),
        (("-f", "3"), [("f", "3")]),
        (("-foo", "-3.5"), [("foo", "-3.5")]),
        (("--verbose",), [("verbose", True)]),
        (("--verbose", "--foo", "3"), [("verbose", True), ("foo", "3")]),
        (("--foo", "1", "--foo", "2"), [("foo", "1"), ("foo", "2")]),
        (("optimizer.lr=0.1", "+seed=3", "++a/b=c"), [("optimizer.lr", "0.1"), ("seed", "3"), ("a/b", "c")]),
        (("data.csv", "-", "--"), []),
        (("https://example.com/?a=b",), []),
        ((), []),
    ],
)
def test_positional_arguments_are_read_as_scripts_read_them(
    args: tuple[str, ...], parameters: list[tuple[str, object]]
) -> None:
    assert list(parameters_of(an_experiment(args=args, kwargs={}))) == parameters


@pytest.mark.parametrize("key", ["learning_rate", "learning-rate"])
@pytest.mark.parametrize("kwargs", [{"learning_rate": 1}, {"learning-rate": 1}, {"--learning_rate": 1}])
def test_dashes_and_underscores_in_names_are_the_same(key: str, kwargs: JsonObject) -> None:
    assert takes(f"{key}=1", **kwargs)


def test_a_parameter_that_an_experiment_does_not_have_does_not_match() -> None:
    assert not takes("seed=*", lr=0.1)


def test_flags_of_both_kinds_are_parameters() -> None:
    assert takes("foo=3", "--foo", "3", sleep=1)
    assert takes("sleep=1", "--foo", "3", sleep=1)
