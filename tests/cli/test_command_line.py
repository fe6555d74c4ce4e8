"""The command line, parsed in this process."""

from __future__ import annotations

import argparse

import pytest
from absl import app, logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.cli import command_table
from caliban.cli.command_line import parse
from caliban.cli.console import Console
from caliban.errors import ExitCode, UsageError
from tests.calls import call
from tests.conftest import Screen, ScreenContext
from tests.fakes import FakeStream

ABSL = (app, logging)
"""The modules whose flags every command takes, as the process imports them."""


def parsed(*arguments: str) -> argparse.Namespace:
    return parse(["caliban", *arguments], Console(FakeStream(), FakeStream(), FakeStream()))


def refused(*arguments: str) -> UsageError:
    """Return the error that a wrong command line is reported as."""
    with pytest.raises(UsageError) as caught:
        parsed(*arguments)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the help that a command line prints before the process ends with 0."""
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert (caught.value.code or 0) == 0
    return capsys.readouterr().out


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"))))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_arguments_after_the_dashes_belong_to_the_script(arguments: list[str]) -> None:
    assert parsed("run", "cpu.py", "--", *arguments).script_args == tuple(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--foo", "3"),
        ("", " ", "\n", "\t"),
        ("--", "--", "x"),
        ("--xgroup", "other", "--dry_run", "-h", "--help"),
        ("--dry-run", "--docker-run-args", "-y"),
        ("run", "status", "resubmit"),
        ("--foo=a b", "'quoted'", '"', "$HOME", "*", "\\"),
    ],
)
def test_script_arguments_are_kept_byte_for_byte(arguments: tuple[str, ...]) -> None:
    args = parsed("run", "--xgroup", "mine", "cpu.py", "--", *arguments)
    assert (args.xgroup, args.dry_run, args.script_args) == ("mine", False, arguments)


def test_without_dashes_a_script_gets_no_arguments() -> None:
    assert parsed("run", "cpu.py").script_args == ()


def test_dashes_at_the_end_add_no_argument() -> None:
    assert parsed("run", "cpu.py", "--").script_args == ()


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_command_without_a_script_takes_no_arguments_after_dashes(command: str) -> None:
    error = refused(command, "--", "x")
    assert (error.id, error.message) == ("unexpected-argument", f'"caliban {command}" takes no arguments after --')


@pytest.mark.parametrize("flag", ["--docker_run_args", "--docker-run-args"])
@pytest.mark.parametrize("value", ["-v=/a:/b", "-v /a:/b", "--env A=1", "--dry_run", "--dry-run", ""])
@pytest.mark.parametrize("joined", [False, True])
def test_arguments_of_docker_may_look_like_flags(flag: str, value: str, joined: bool) -> None:
    args = parsed("run", *([f"{flag}={value}"] if joined else [flag, value]), "cpu.py")
    assert (args.docker_run_args, args.module, args.dry_run) == (value, "cpu.py", False)


def test_docker_gets_no_arguments_by_default() -> None:
    assert parsed("run", "cpu.py").docker_run_args == ""


def test_flags_may_precede_the_command() -> None:
    assert parsed("--dry_run", "resubmit", "--xgroup", "x").dry_run is True


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--dry_run",), ("--xgroup", "y", "--dry-run")])
def test_flags_may_be_spelt_with_hyphens(arguments: tuple[str, ...]) -> None:
    assert parsed("resubmit", "--xgroup", "x", *arguments).dry_run is True


@pytest.mark.parametrize("arguments", [("--max-jobs", "3"), ("--max-jobs=3",), ("--max_jobs", "3")])
def test_a_flag_with_hyphens_takes_its_value(arguments: tuple[str, ...]) -> None:
    assert parsed("status", *arguments).max_jobs == 3


def test_a_value_keeps_its_hyphens() -> None:
    assert parsed("resubmit", "--xgroup=--dry-run").xgroup == "--dry-run"


@pytest.mark.parametrize("command", command_table.BUILT_IN)
def test_help_shows_no_flag_spelt_with_hyphens(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = [line.split()[0] for line in shown(capsys, *command.split(), "--help").splitlines() if line[:4] == "  --"]
    assert [flag for flag in listed if "-" in flag[2:]] == []


@pytest.mark.parametrize("flag", ["-y", "--yes"])
def test_y_is_short_for_yes(flag: str) -> None:
    assert parsed("resubmit", "--xgroup", "x", flag).yes is True


@pytest.mark.parametrize("flag", ["--verbosity=1", "--logtostderr", "--nologtostderr", "--log_dir=/tmp", "--undefok=x"])
def test_the_flags_of_absl_keep_working(flag: str) -> None:
    assert parsed("status", flag).xgroup is None


def test_a_group_may_have_the_name_of_a_command() -> None:
    args = parsed("resubmit", "--xgroup", "resubmit")
    assert args.xgroup == "resubmit"


def test_the_document_s_flags_are_there_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert " ".join(shown(capsys, "resubmit", "--help").split()).startswith(
        "usage: caliban resubmit [-h] [--helpfull] [--xgroup XGROUP] [--dry_run] [--all_jobs] "
        "[--project_id PROJECT_ID] [--cloud_key CLOUD_KEY] "
    )


def test_the_help_of_resubmit_fits_sixty_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert len(shown(capsys, "resubmit", "--help").splitlines()) <= 60


@pytest.mark.parametrize(
    "help",
    [
        "--xgroup XGROUP experiment group",
        "--dry_run Don't actually submit; log everything that's going to happen.",
        "--all_jobs resubmit all jobs regardless of current state, otherwise only jobs that are in FAILED or STOPPED "
        "state will be resubmitted",
        "--project_id PROJECT_ID ID of the GCloud AI Platform/GKE project to use for Cloud job submission and image "
        "persistence. (Defaults to $PROJECT_ID; errors if both the argument and $PROJECT_ID are empty.)",
        "--cloud_key CLOUD_KEY Path to GCloud service account key. (Defaults to $GOOGLE_APPLICATION_CREDENTIALS.)",
    ],
)
def test_flags_of_resubmit_have_the_document_s_help(help: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert help in " ".join(shown(capsys, "resubmit", "--help").split())


@pytest.mark.parametrize("command", command_table.BUILT_IN)
@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull"])
def test_every_command_has_help(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, *command.split(), flag).startswith(f"usage: caliban {command} ")


@pytest.mark.parametrize("command", command_table.BUILT_IN)
def test_help_prints_what_the_help_flag_prints(
    command: str, context: ScreenContext, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(context, "help", *command.split()) == ExitCode.DONE
    assert context.out == shown(capsys, *command.split(), "--help")


def commands_listed(text: str) -> list[str]:
    return [entry.name for entry in command_table.BUILT_IN.values() if f"\n  {entry.name} " in text]


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_without_a_command_every_command_is_listed(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands_listed(shown(capsys, *arguments)) == [*command_table.BUILT_IN]


def test_help_without_a_command_lists_every_command(context: ScreenContext) -> None:
    assert call(context, "help") == ExitCode.DONE
    assert commands_listed(context.out) == [*command_table.BUILT_IN]


@pytest.mark.parametrize("arguments", [("cluster",), ("cluster", "--help"), ("cluster", "job")])
def test_the_beginning_of_a_command_lists_the_commands_that_begin_so(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, *arguments)
    assert ("\n  cluster job ls " in out, "resubmit" in out) == (True, False)


def test_help_takes_the_beginning_of_a_command(context: ScreenContext) -> None:
    call(context, "help", "cluster", "job")
    assert commands_listed(context.out) == ["cluster job submit", "cluster job ls"]


@pytest.mark.parametrize("arguments", [("frobnicate",), ("status", "logs"), ("cluster", "logs")])
def test_help_of_an_unknown_command_is_an_error(arguments: tuple[str, ...], context: ScreenContext) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, "help", *arguments)
    assert (caught.value.id, caught.value.message) == ("unknown-command", f'unknown command "{" ".join(arguments)}"')


def test_version_prints_what_the_version_flag_prints(
    context: ScreenContext, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(context, "version") == ExitCode.DONE
    assert context.out == shown(capsys, "--version")
    assert context.out.startswith("caliban ")


def test_a_command_of_several_words_takes_its_own_flags() -> None:
    args = parsed("cluster", "job", "submit", "--context", "lab", "cpu.py", "--", "job", "ls")
    assert (args.context, args.module, args.script_args) == ("lab", "cpu.py", ("job", "ls"))


def test_a_built_in_command_does_not_look_for_plugins(monkeypatch: pytest.MonkeyPatch, screen: Screen) -> None:
    def look() -> dict[str, command_table.Entry]:
        raise AssertionError("looked for plugins")

    monkeypatch.setattr(command_table, "plugins", look)
    args = parse(["caliban", "resubmit", "--xgroup", "x"], screen.console)
    assert args.xgroup == "x"
