"""Wrong usage: what is reported, with which hint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from caliban.cli import command_table
from caliban.cli.parser import Parser
from caliban.errors import UsageError
from tests.cli.test_command_line import refused


@pytest.mark.parametrize(
    ("arguments", "flag", "suggestion"),
    [
        (("resubmit", "--xgruop=x"), "--xgruop", "--xgroup"),
        (("resubmit", "--all"), "--all", "--all_jobs"),
        (("resubmit", "--xgr=x"), "--xgr", "--xgroup"),
        (("resubmit", "--dry"), "--dry", "--dry_run"),
        (("status", "--max-job", "3"), "--max-job", "--max_jobs"),
        (("run", "--no-gpu", "cpu.py"), "--no-gpu", "--nogpu"),
    ],
)
def test_an_unknown_flag_is_reported_with_a_similar_one(arguments: tuple[str, ...], flag: str, suggestion: str) -> None:
    error = refused(*arguments)
    assert (error.id, error.message, error.hint) == (
        "unknown-flag",
        f'unknown flag "{flag}"',
        f"did you mean {suggestion}?",
    )


@pytest.mark.parametrize("flag", ["--pod", "--qqqq", "--y", "--pdb_post", "--log_di", "--helpful", "--verbosit", "-z"])
def test_nothing_is_suggested_for_a_flag_that_is_like_none_of_the_command(flag: str) -> None:
    error = refused("status", "--xgroup", "x", flag)
    assert (error.message, error.hint) == (f'unknown flag "{flag}"', 'for details, run "caliban status --help"')


def test_a_changed_parameter_before_the_dashes_is_recognized() -> None:
    hint = refused("resubmit", "--xgroup", "night", "--seed", "11").hint
    assert hint == "put the arguments of your script after --: caliban resubmit ... -- --seed ..."


def test_several_unknown_flags_are_reported_together() -> None:
    error = refused("resubmit", "--xgruop=x", "--qqqq", "--dry")
    assert error.message == 'unknown flags "--xgruop", "--qqqq", "--dry"'
    assert error.hint == "did you mean --xgroup, --dry_run?"


@pytest.mark.parametrize(
    ("arguments", "message", "shown"),
    [
        (("train.py", "--lr", "0.1"), 'unknown flag "--lr"', "--lr"),
        (("--lr=0.1", "train.py"), 'unknown flag "--lr"', "--lr"),
        (("train.py", "my data", "2"), 'unexpected arguments "my data", "2"', "'my data'"),
    ],
)
def test_arguments_of_the_script_belong_after_the_dashes(arguments: tuple[str, ...], message: str, shown: str) -> None:
    error = refused("run", *arguments)
    assert (error.message, error.hint) == (
        message,
        f"put the arguments of your script after --: caliban run MODULE -- {shown} ...",
    )


def test_a_group_without_its_flag_is_recognized() -> None:
    error = refused("resubmit", "my group")
    assert (error.id, error.message, error.hint) == (
        "unexpected-argument",
        'unexpected argument "my group"',
        "did you mean --xgroup 'my group'?",
    )


def test_a_second_group_is_not_suggested() -> None:
    assert refused("resubmit", "--xgroup", "night", "day").hint == 'for details, run "caliban resubmit --help"'


def test_several_unexpected_arguments_are_reported_together() -> None:
    error = refused("version", "1", "2")
    assert (error.message, error.hint) == (
        'unexpected arguments "1", "2"',
        'for details, run "caliban version --help"',
    )


def test_a_missing_module_is_reported_with_what_it_is() -> None:
    error = refused("run")
    assert (error.id, error.message) == ("missing-argument", "MODULE is required")
    assert str(error.hint).startswith("MODULE: the code to run: a script")


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "9" * 5000])
def test_a_malformed_integer_is_reported_with_its_flag(value: str) -> None:
    error = refused("status", f"--max_jobs={value}")
    expected = f'invalid value "{value}"' if len(value) > 100 else f'expected an integer >= 0, got "{value}"'
    assert (error.id, error.message) == ("invalid-value", f"--max_jobs: {expected}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--xgroup",), "--xgroup: expected one argument"),
        (("--xgroup", "--dry_run"), "--xgroup: expected one argument"),
        (("--dry_run=no",), '--dry_run: takes no value, got "no"'),
        (("--dry-run=a'b",), '--dry_run: takes no value, got "a\'b"'),
    ],
)
def test_a_value_too_few_or_too_many_is_reported(arguments: tuple[str, ...], message: str) -> None:
    assert refused("resubmit", *arguments).message == message


def test_missing_arguments_of_docker_are_reported() -> None:
    assert refused("run", "cpu.py", "--docker_run_args").message == "--docker_run_args: expected one argument"


@pytest.mark.parametrize("flag", ["--verbosity=x", "--flagfile=/nowhere"])
def test_a_wrong_value_of_an_absl_flag_is_reported(flag: str) -> None:
    error = refused("status", flag)
    assert (error.id, error.message, error.cause is not None) == (
        "invalid-value",
        "invalid value of an absl flag",
        True,
    )


def parser_of_a_plugin() -> Parser:
    parser = Parser("caliban hello")
    parser.add_argument("--times", type=int)
    parser.add_argument("--size", choices=["small", "large"])
    parser.add_argument("--config", type=Path, required=True, help="the file to read")
    parser.add_argument_group("more").add_argument("--dry_run", action="store_true")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--loud", action="store_true")
    either.add_argument("--quiet", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config=c", "--times=x"), '--times: invalid value "x"'),
        (("--config=c", "--size", "huge"), '--size: invalid choice "huge" (choose from small, large)'),
        (("--config=c", "--loud", "--quiet"), "--quiet: not allowed with argument --loud"),
        ((), "--config is required"),
    ],
)
def test_wrong_usage_of_a_plugin_is_reported_alike(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser_of_a_plugin().parse(arguments)
    assert (caught.value.message, caught.value.hint) == (
        message,
        'for details, run "caliban hello --help"' if arguments else "--config: the file to read",
    )


def test_flags_of_a_group_may_be_spelt_with_hyphens() -> None:
    assert parser_of_a_plugin().parse(["--config=c", "--dry-run"]).dry_run is True


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("staus", 'did you mean "caliban status"?'),
        ("stat", 'did you mean "caliban status"?'),
        ("resumbit", 'did you mean "caliban resubmit"?'),
        ("rerun", 'did you mean "caliban resubmit"?'),
        ("Retry", 'did you mean "caliban resubmit"?'),
        ("ps", 'did you mean "caliban status"?'),
        ("list", 'did you mean "caliban status"?'),
        ("ls", 'did you mean "caliban status"?'),
        ("kill", 'did you mean "caliban stop"?'),
        ("cancel", 'did you mean "caliban stop"?'),
        ("submit", 'did you mean "caliban cloud" or "caliban cluster job submit"?'),
        ("Status", 'did you mean "caliban status"?'),
        ("zzz", f"the commands are {', '.join(command_table.BUILT_IN)}"),
        ("cluster qqqqqqqqqqqqqqqq", "the commands are cluster ls, cluster job submit, cluster job ls"),
        ("cluster foo", "the commands are cluster ls, cluster job submit, cluster job ls"),
        ("cluster job sumbit", 'did you mean "caliban cluster job submit"?'),
        ("cluster submit", 'did you mean "caliban cluster job submit"?'),
        ("cluster jobs", 'did you mean "caliban cluster job ls"?'),
    ],
)
def test_an_unknown_command_is_reported_with_a_suggestion(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_plugins: Mapping[str, command_table.Entry] = {}
    monkeypatch.setattr(command_table, "plugins", lambda: no_plugins)
    error = refused(*name.split())
    assert (error.id, error.message, error.hint) == ("unknown-command", f'unknown command "{name}"', hint)


@pytest.mark.parametrize("names", command_table.SUGGESTIONS.values())
def test_every_suggested_command_exists(names: tuple[str, ...]) -> None:
    assert [name for name in names if name not in command_table.BUILT_IN] == []


@pytest.mark.parametrize("word", command_table.SUGGESTIONS)
def test_no_suggestion_is_for_the_name_of_a_command(word: str) -> None:
    assert (word in command_table.BUILT_IN, word) == (False, word.lower())


def test_an_empty_command_is_an_error() -> None:
    assert refused("").message == 'unknown command ""'


def test_a_value_before_the_command_is_reported_as_a_flag_in_the_wrong_place() -> None:
    error = refused("--xgroup", "night", "status")
    assert (error.message, error.hint) == (
        'unknown command "night"',
        "put the command first: caliban COMMAND --xgroup ...",
    )


def test_flags_without_a_command_are_an_error() -> None:
    error = refused("--log_dir=/tmp")
    assert (error.id, error.message, error.hint) == (
        "missing-command",
        "no command given",
        'for a list of commands, run "caliban help"',
    )


def test_half_a_command_with_flags_is_an_error() -> None:
    error = refused("cluster", "job", "--log_dir=/tmp")
    assert (error.id, error.message, error.hint) == (
        "missing-command",
        '"caliban cluster job" is not a complete command',
        "the commands are cluster job submit, cluster job ls",
    )


def test_an_argument_that_is_not_utf8_is_an_error() -> None:
    error = refused("resubmit", "--xgroup", "\udcff")
    assert (error.id, error.message) == ("argument-not-text", "argument is not valid UTF-8: b'\\xff'")
