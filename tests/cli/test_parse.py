"""The command line, parsed in this process."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.cli import command_table as command_table
from caliban.cli.console import Console
from caliban.errors import CalibanError
from caliban.main import parse
from tests.conftest import Screen
from tests.fakes import FakeStream


def parsed(*words: str) -> argparse.Namespace:
    return parse(["caliban", *words], Console(FakeStream(), FakeStream(), FakeStream()))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said of words that are wrong."""
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"))))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_what_stands_behind_the_dashes_is_the_scripts_own(words: list[str]) -> None:
    assert parsed("run", "cpu.py", "--", *words).script_args == tuple(words)


@pytest.mark.parametrize(
    "words",
    [
        ("--foo", "3"),
        ("", " ", "\n", "\t"),
        ("--", "--", "x"),
        ("--xgroup", "other", "--dry_run", "-h", "--help"),
        ("run", "status", "resubmit"),
        ("--foo=a b", "'quoted'", '"', "$HOME", "*", "\\"),
    ],
)
def test_script_arguments_are_kept_byte_for_byte(words: tuple[str, ...]) -> None:
    args = parsed("run", "--xgroup", "mine", "cpu.py", "--", *words)
    assert (args.xgroup, args.dry_run, args.script_args) == ("mine", False, words)


def test_without_dashes_a_script_gets_no_arguments() -> None:
    assert parsed("run", "cpu.py").script_args == ()


def test_nothing_behind_the_dashes_is_no_argument() -> None:
    assert parsed("run", "cpu.py", "--").script_args == ()


@pytest.mark.parametrize("command", ["status", "resubmit"])
def test_a_command_without_a_script_takes_nothing_behind_dashes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{command} takes no arguments after --" in refused(capsys, command, "--", "x")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--docker_run_args", "-v=/a:/b"), "-v=/a:/b"),
        (("--docker_run_args", "-v /a:/b"), "-v /a:/b"),
        (("--docker_run_args", "--env A=1"), "--env A=1"),
        (("--docker_run_args=-v /a:/b",), "-v /a:/b"),
        (("--docker_run_args", "--dry_run"), "--dry_run"),
        (("--docker_run_args", ""), ""),
        ((), ""),
    ],
)
def test_arguments_of_docker_may_look_like_flags(words: tuple[str, ...], value: str) -> None:
    args = parsed("run", *words, "cpu.py")
    assert (args.docker_run_args, args.module, args.dry_run) == (value, "cpu.py", False)


def test_arguments_of_docker_that_are_missing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "run", "cpu.py", "--docker_run_args")
    assert "argument --docker_run_args: expected one argument" in said


def test_flags_may_stand_before_the_command() -> None:
    assert parsed("--dry_run", "resubmit", "--xgroup", "x").dry_run is True


def test_a_group_may_be_called_as_a_command_is() -> None:
    args = parsed("resubmit", "--xgroup", "resubmit")
    assert args.xgroup == "resubmit"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("resubmit", "--dry-run"), "--dry_run"),
        (("resubmit", "--all-jobs"), "--all_jobs"),
        (("resubmit", "--xgruop=x"), "--xgroup"),
        (("status", "--max-jobs=3"), "--max_jobs"),
        (("run", "--no-gpu", "cpu.py"), "--nogpu"),
    ],
)
def test_a_flag_that_is_nearly_right_is_named(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"did you mean {meant}?" in refused(capsys, *words)


@pytest.mark.parametrize("flag", ["--all", "--xgr=x", "--dry", "--y"])
def test_flags_are_not_to_be_shortened(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"unrecognized arguments: {flag}" in refused(capsys, "resubmit", "--xgroup", "x", flag)


def test_a_flag_that_is_like_none_is_just_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "resubmit", "--qqqq")
    assert said.splitlines()[-1] == "caliban resubmit: error: unrecognized arguments: --qqqq"


def test_a_missing_module_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the following arguments are required: MODULE" in refused(capsys, "run")


@pytest.mark.parametrize("count", ["-1", "x", "1.5"])
def test_a_number_of_jobs_must_be_one(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "argument --max_jobs" in refused(capsys, "status", f"--max_jobs={count}")


def test_the_document_s_flags_are_there_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("resubmit", "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(
        "usage: caliban resubmit [-h] [--helpfull] [--xgroup XGROUP] [--dry_run] [--all_jobs] "
        "[--project_id PROJECT_ID] [--cloud_key CLOUD_KEY] [--yes] [--platform {vertex}]"
    )


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
def test_flags_of_resubmit_say_what_the_document_says(help: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("resubmit", "--help")
    assert help in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", command_table.BUILT_IN)
@pytest.mark.parametrize("flag", ["-h", "--help", "--helpfull"])
def test_every_command_explains_itself(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*command.split(), flag)
    assert (caught.value.code or 0, capsys.readouterr().out.startswith(f"usage: caliban {command} ")) == (0, True)


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_without_a_command_every_command_is_listed(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert [entry.name for entry in command_table.BUILT_IN.values() if f"\n  {entry.name} " in out] == [
        *command_table.BUILT_IN
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("staus", "did you mean status?"),
        ("resumbit", "did you mean resubmit?"),
        ("zzz", f"the commands are {', '.join(command_table.BUILT_IN)}"),
        ("cluster qqqqqqqqqqqqqqqq", "there are cluster ls, cluster job submit, cluster job ls"),
        ("cluster job sumbit", "did you mean cluster job submit?"),
    ],
)
def test_an_unknown_command_is_told_with_what_was_perhaps_meant(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_table, "plugins", dict)
    with pytest.raises(CalibanError) as caught:
        parsed(*name.split())
    assert (caught.value.id, caught.value.hint, caught.value.exit_code) == ("unknown-command", hint, 2)


@pytest.mark.parametrize("words", [("cluster",), ("cluster", "--help"), ("cluster", "job")])
def test_the_beginning_of_a_command_lists_those_that_begin_like_it(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    out = capsys.readouterr().out
    assert (caught.value.code, "\n  cluster job ls " in out, "resubmit" in out) == (0, True, False)


def test_a_command_of_several_words_takes_its_own_flags() -> None:
    args = parsed("cluster", "job", "submit", "--context", "lab", "cpu.py", "--", "job", "ls")
    assert (args.context, args.module, args.script_args) == ("lab", "cpu.py", ("job", "ls"))


def test_a_command_of_ours_does_not_even_look_for_plugins(monkeypatch: pytest.MonkeyPatch, screen: Screen) -> None:
    def look() -> dict[str, command_table.Entry]:
        raise AssertionError("looked for plugins")

    monkeypatch.setattr(command_table, "plugins", look)
    args = parse(["caliban", "resubmit", "--xgroup", "x"], screen.console)
    assert args.xgroup == "x"
