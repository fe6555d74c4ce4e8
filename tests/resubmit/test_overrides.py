from __future__ import annotations

import argparse
import json
import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caliban.errors import CalibanError, UsageError
from caliban.records import ExperimentRecord, JsonObject
from caliban.resubmit.overrides import Applied, Override, Setting, apply, check_conflicts, parse_words
from caliban.resubmit.words import split
from tests.builders import an_experiment
from tests.test_docs import page


def recorded(args: str = "", **kwargs: object) -> ExperimentRecord:
    return an_experiment(1, args=tuple(shlex.split(args)), kwargs=kwargs)


def typed(words: str) -> Override:
    return Override(parse_words(shlex.split(words)))


def line(experiment: ExperimentRecord, override: Override) -> str:
    found = apply(experiment, override)
    return shlex.join(replace(experiment, args=found.args, kwargs=found.kwargs).arguments)


@pytest.mark.parametrize(
    ("args", "kwargs", "words", "expected"),
    [
        ("--lr 0.1 --seed 3", {}, "--seed 11", "--lr 0.1 --seed 11"),
        ("--lr 0.1", {"seed": 3}, "--seed 11", "--lr 0.1 --seed 11"),
        ("--seed=3 data.csv", {}, "--seed 11", "--seed=11 data.csv"),
        ("--seed 3", {}, "--seed=11", "--seed 11"),
        ("--seed 3", {}, "--seed -1", "--seed -1"),
        ("--seed 3", {"a": 1}, "--fast", "--seed 3 --fast --a 1"),
        ("--seed 3 -- raw", {}, "--fast", "--seed 3 --fast -- raw"),
        ("--name x", {}, "--name=-foo", "--name=-foo"),
        ("--name=x", {}, "--name=--foo", "--name=--foo"),
        ("--fast", {}, "--fast=false", "--fast=false"),
        ("--fast", {}, "--fast 2", "--fast 2"),
        ("-s 3 -v", {}, "-s 11", "-s 11 -v"),
        ("-lr 0.1", {}, "-lr 0.2", "-lr 0.2"),
        ("--layers 64 32", {}, "--layers 128 16", "--layers 128 16"),
        ("--lr 0.1 data.csv", {}, "--lr 0.2 data.csv", "--lr 0.2 data.csv"),
        ("--tag a --lr 1 --tag b", {}, "--tag c --tag d", "--tag c --lr 1 --tag d"),
        ("--tag a", {"tag": "b"}, "--tag c --tag d", "--tag c --tag d"),
        ("train lr=0.1 +n=2", {}, "lr=0.2", "train lr=0.2 +n=2"),
        ("train lr=0.1", {}, "seed=3", "train lr=0.1 seed=3"),
        ("", {}, "--layers 64 32", "--layers 64 32"),
        ("", {"fast": False}, "--fast", "--fast"),
        ("", {"fast": True}, "--fast", "--fast"),
        ("", {"fast": True}, "--fast 2", "--fast 2"),
        ("--name 'a b'", {}, "--name 'c  d'", "--name 'c  d'"),
        ("--name ä", {}, "--name ''", "--name ''"),
        ("--seed 3 -- --seed 4", {}, "--seed 5", "--seed 5 -- --seed 4"),
    ],
)
def test_words_replace_a_parameter_at_its_place_or_add_it(
    args: str, kwargs: JsonObject, words: str, expected: str
) -> None:
    assert line(recorded(args, **kwargs), typed(words)) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "settings", "expected"),
    [
        ("--lr 0.1", {"seed": 3}, {"seed": 11}, "--lr 0.1 --seed 11"),
        ("--seed 3", {}, {"seed": 11}, "--seed 11"),
        ("--seed=3", {}, {"seed": 11}, "--seed=11"),
        ("--seed 3", {"a": 1}, {"b": 2}, "--seed 3 --a 1 --b 2"),
        ("--lr 0.1 --x 1", {}, {"lr": None}, "--x 1"),
        ("--lr=0.1 --x 1", {}, {"lr": None}, "--x 1"),
        ("--tag a --tag b", {"tag": "c", "x": 1}, {"tag": None}, "--x 1"),
        ("", {"fast": True, "x": 1}, {"fast": False}, "--x 1"),
        ("--fast", {}, {"fast": False}, ""),
        ("", {"lr": 0.1}, {"lr": True}, "--lr"),
        ("", {}, {"lr": None, "fast": False}, ""),
        ("--name x", {}, {"name": "-foo"}, "--name=-foo"),
        ("", {"name": "x"}, {"name": "-foo"}, "--name -foo"),
    ],
)
def test_settings_of_a_file_replace_add_and_remove_parameters(
    args: str, kwargs: JsonObject, settings: dict[str, Setting], expected: str
) -> None:
    assert line(recorded(args, **kwargs), Override(settings=settings)) == expected


[RULES] = re.findall(r"^\| recorded \| typed .*\n\|[-|]+\n((?:\|.*\n)+)", page("docs/resubmit.md"), re.MULTILINE)


@pytest.mark.parametrize("rule", RULES.splitlines())
def test_the_rules_of_the_page_are_true(rule: str) -> None:
    before, given, after = (cell.strip() for cell in rule.strip("|").split("|"))
    words = given.split("`")[1]
    try:
        override = Override(settings=json.loads(words)) if "file:" in given else typed(words.removeprefix("-- "))
        found = line(recorded(before.strip("`")), override)
    except CalibanError:
        found = "refused"
    assert found == ("refused" if after.startswith("refused:") else "".join(after.split("`")[1:2]))


@pytest.mark.parametrize(
    ("args", "kwargs", "override", "message", "hint"),
    [
        ("--tag a --tag b", {}, typed("--tag c"), "it is recorded 2 times and given once", "write it 2 times"),
        ("--seed 1", {"seed": 2}, typed("--seed 3"), "it is recorded 2 times", "write it 2 times"),
        ("--seed 1", {}, typed("--seed 2 --seed 3"), "it is recorded once and given 2 times", "write it once"),
        ("--layers 64 32", {}, typed("--layers 128"), "given with 1 value", "write 2 values"),
        ("--lr 0.1 data.csv", {}, typed("--lr 0.2"), "recorded as --lr 0.1 data.csv", "write 2 values"),
        ("--lr 0.1", {}, typed("--lr"), "given with no value", "write --lr=VALUE"),
        ("--lr=0.1", {}, typed("--lr 1 2"), "given with 2 values", "write --lr=VALUE"),
        ("", {"lr": 0.1}, typed("--lr"), "given with none", "write --lr VALUE"),
        ("", {"lr": 0.1}, typed("--lr 1 2"), "given with 2", "write --lr VALUE"),
        ("", {"name": "x"}, typed("--name=-foo"), "-foo would be read as a flag", "--experiment_config"),
        ("--lr 0.1", {}, typed("-lr 0.2"), "--lr is recorded, and may be the same", "write --lr"),
        ("--learning-rate 1", {}, typed("--learning_rate 2"), "--learning-rate is recorded", "write --learning-rate"),
        ("lr=0.1", {}, Override(settings={"lr": 0.2}), "lr is recorded", "write lr"),
        ("--set lr=0.1", {}, typed("lr=0.2"), "as a value of --set", "write --set NAME="),
        ("", {"verbose": True}, typed("--no-verbose"), "--verbose is recorded", "use null"),
        ("--verbose", {}, typed("--noverbose"), "--verbose is recorded", "use null"),
        ("--no-verbose", {}, typed("--verbose"), "--no-verbose is recorded", "use null"),
        ("-x 3", {}, typed("-x1"), "-x is recorded", "write -x"),
        ("-x3", {}, typed("-x 1"), "-x3 is recorded", "write -x3"),
        ("--layers 64 32", {}, Override(settings={"layers": None}), "values is unknown", "submitting command"),
        ("--tag a --tag b", {}, Override(settings={"tag": "c"}), "it is recorded 2 times", "after --"),
        ("a -- b", {}, Override(settings={"lr": 1}), "have a -- before", "-- --lr"),
        ("--fast --lr=1 data.csv", {}, Override(settings={"lr": None}), "read as --fast data.csv", "submitting"),
        ("--fast", {}, typed("lr=1"), "read as --fast lr=1", "submitting"),
    ],
)
def test_what_is_ambiguous_is_refused_with_what_to_write(
    args: str, kwargs: JsonObject, override: Override, message: str, hint: str
) -> None:
    with pytest.raises(CalibanError) as caught:
        apply(recorded(args, **kwargs), override)
    assert caught.value.id == "ambiguous-parameter"
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("words", ["data.csv", "--x=1 data.csv", "--lr 1 -- --x", "-", "~lr"])
def test_a_positional_word_is_refused(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        typed(words)
    assert caught.value.id == "not-a-parameter"


@pytest.mark.parametrize("key", ["seed", "random_seed"])
def test_a_parameter_set_by_words_and_by_a_file_is_refused(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_conflicts(parse_words(["--seed", "1", "--random-seed", "2"]), {key: 1}, "more.json")
    assert (caught.value.id, "more.json" in caught.value.message) == ("conflicting-parameters", True)


@pytest.mark.parametrize(
    ("before", "words", "after"),
    [
        (3, "11", 11),
        (3, "0.5", 0.5),
        (0.1, "1e-3", "1e-3"),
        (3, "011", "011"),
        (3, "nan", "nan"),
        ("3", "11", "11"),
        (True, "11", "11"),
    ],
)
def test_a_number_of_a_file_stays_a_number_where_the_text_is_the_same(
    before: object, words: str, after: object
) -> None:
    found = apply(recorded(seed=before), typed(f"--seed {words}")).kwargs["seed"]
    assert (found, type(found)) == (after, type(after))


@pytest.mark.parametrize(
    ("args", "override", "texts"),
    [
        ("--seed 3", typed("--seed 11"), ["--seed 3 -> 11"]),
        ("", typed("--fast --lr 1"), ["--fast added", "--lr 1 added"]),
        ("--lr 1 --fast", Override(settings={"lr": None, "fast": False}), ["--lr 1 removed", "--fast removed"]),
        ("--fast", typed("--fast 2"), ["--fast (no value) -> 2"]),
        ("--name x", typed("--name 'a b'"), ["--name x -> 'a b'"]),
        ("--layers 1 2", typed("--layers 3 4"), ["--layers '1 2' -> '3 4'"]),
        ("lr=1", typed("lr=2"), ["lr 1 -> 2"]),
        ("--seed 3", typed("--seed 3"), []),
    ],
)
def test_each_change_is_described(args: str, override: Override, texts: list[str]) -> None:
    assert [change.text for change in apply(recorded(args), override).changes] == texts


NAMES = ["alpha", "beta", "gamma", "delta"]
SWITCHES = ["fast", "quiet"]
VALUES = st.sampled_from(["1", "-1", "-2.5", "0.1", "a b", "", "ä", "x=1", "true"]) | st.integers().map(str)


@st.composite
def experiments(draw: st.DrawFn) -> ExperimentRecord:
    """Return an experiment whose flags are in args, separate or attached, or in kwargs, each at most once."""
    args: list[str] = []
    kwargs: dict[str, object] = {}
    for name in draw(st.permutations([*NAMES, *SWITCHES])):
        place = draw(st.sampled_from(["absent", "separate", "attached", "kwargs"]))
        value: object = True if name in SWITCHES else draw(VALUES | st.integers() | st.floats(allow_nan=False))
        if place == "kwargs":
            kwargs[name] = draw(st.booleans()) if value is True else value
        elif place != "absent" and value is True:
            args.append(f"--{name}")
        elif place == "separate":
            args += [f"--{name}", str(value)]
        elif place == "attached":
            args.append(f"--{name}={value}")
    return an_experiment(1, args=tuple(args), kwargs=kwargs)


@st.composite
def overrides(draw: st.DrawFn) -> Override:
    """Return changes of some flags, by words and by a file."""
    words: list[str] = []
    settings: dict[str, Setting] = {}
    for name in draw(st.lists(st.sampled_from([*NAMES, *SWITCHES]), unique=True)):
        by_file = draw(st.booleans())
        if name in SWITCHES:
            if by_file:
                settings[name] = draw(st.sampled_from([True, False, None]))
            else:
                words.append(f"--{name}")
        elif by_file:
            settings[name] = draw(VALUES | st.integers() | st.none())
        else:
            value = draw(VALUES)
            words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
    return Override(parse_words(words), settings)


def parsed(experiment: ExperimentRecord) -> dict[str, object]:
    """Return what a script with these flags reads."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for name in NAMES:
        parser.add_argument(f"--{name}")
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    return vars(parser.parse_args(experiment.arguments))


def asked(override: Override) -> dict[str, object]:
    wanted: dict[str, object] = {}
    for part in override.parts:
        wanted[str(part.name)[2:]] = part.values[0] if part.values else True
    for name, value in override.settings.items():
        removed = False if name in SWITCHES else None
        wanted[name] = removed if value is None or value is False else True if value is True else str(value)
    return wanted


def applied(experiment: ExperimentRecord, override: Override) -> ExperimentRecord:
    found = apply(experiment, override)
    return replace(experiment, args=found.args, kwargs=found.kwargs)


@given(experiments(), overrides())
def test_a_script_reads_what_was_asked_and_all_other_parameters_as_before(
    experiment: ExperimentRecord, override: Override
) -> None:
    try:
        before, after = parsed(experiment), applied(experiment, override)
    except (CalibanError, argparse.ArgumentError):  # "-1e300" is a value that argparse takes for a flag
        assume(False)
        return
    assert parsed(after) == {**before, **asked(override)}


@given(experiments(), overrides())
def test_the_same_changes_again_change_nothing(experiment: ExperimentRecord, override: Override) -> None:
    try:
        once = applied(experiment, override)
    except CalibanError:
        assume(False)
        return
    assert apply(once, override) == Applied(once.args, once.kwargs, ())


@given(experiments(), overrides())
def test_other_parameters_stay_in_their_order_and_place(experiment: ExperimentRecord, override: Override) -> None:
    try:
        after = applied(experiment, override)
    except CalibanError:
        assume(False)
        return
    names = set(asked(override))

    def others(each: ExperimentRecord) -> tuple[list[str], list[tuple[str, object]]]:
        args = [word for part in split(each.args) if str(part.name)[2:] not in names for word in part.words]
        return args, [(key, value) for key, value in each.kwargs.items() if key not in names]

    assert others(after) == others(experiment)


@given(
    st.lists(
        st.sampled_from(["--", "-x", "-x1", "--lr", "--lr=1", "lr=1", "-1", "a", "--no-lr"]) | st.text(max_size=3)
    ),
    st.lists(st.sampled_from(["-x", "--lr", "--lr=-2", "lr=2", "-1", "b", "--fast"]), max_size=4),
    st.dictionaries(st.sampled_from(["lr", "x", "fast"]), st.sampled_from([1, "-y", True, False, None])),
)
def test_odd_arguments_are_changed_the_same_way_twice_or_refused(
    args: list[str], words: list[str], settings: dict[str, Setting]
) -> None:
    experiment = an_experiment(1, args=tuple(args), kwargs={"lr": 1, "fast": True})
    try:
        override = Override(parse_words(words), settings)
        check_conflicts(override.parts, settings, "file")
        once = applied(experiment, override)
    except CalibanError:
        return
    assert applied(once, override) == once
