from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.cli.summaries import command_lines, summary_lines
from caliban.records import FailureCause
from caliban.summary import CauseCount, Summary

NIGHT = Summary(
    {"succeeded": 31, "failed": 12, "running": 1},
    (
        CauseCount(
            FailureCause.CODE_ERROR, "ValueError", "train.py:41", "ValueError: nan (train.py:41)", tuple(range(10))
        ),
        CauseCount(FailureCause.OUT_OF_MEMORY, None, None, "exit code 137 (SIGKILL)", (1, 2)),
        CauseCount(FailureCause.UNKNOWN, None, None, "", (1,)),
    ),
    has_output=True,
    can_rerun=True,
)


def test_counts_are_followed_by_a_line_for_each_cause() -> None:
    assert list(summary_lines(NIGHT)) == [
        "44 experiments: 31 succeeded, 12 failed, 1 running",
        "  10 code_error      ValueError: nan (train.py:41)",
        "   2 out_of_memory   exit code 137 (SIGKILL)",
        "   1 unknown         no reason recorded",
    ]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({}, "0 experiments"),
        ({"succeeded": 1}, "1 experiment: 1 succeeded"),
        ({"never run": 2}, "2 experiments: 2 never run"),
    ],
)
def test_a_group_without_failures_is_one_line(counts: dict[str, int], line: str) -> None:
    assert list(summary_lines(Summary(counts))) == [line]


def test_where_only_some_experiments_are_listed_the_count_says_so() -> None:
    assert next(summary_lines(NIGHT, only_listed=True)).startswith("44 experiments listed: ")


def test_the_commands_to_run_next_follow() -> None:
    assert list(command_lines(NIGHT, "it's night")) == [
        """output:  caliban logs --xgroup 'it'"'"'s night' --failed""",
        """re-run:  caliban resubmit --xgroup 'it'"'"'s night'""",
    ]


def test_a_selection_is_kept_for_the_output_and_the_re_run() -> None:
    assert list(command_lines(NIGHT, "night", ("--cause", "oom"))) == [
        "output:  caliban logs --xgroup night --cause oom --failed",
        "re-run:  caliban resubmit --xgroup night --cause oom",
    ]


def test_states_that_were_selected_are_those_whose_output_is_shown() -> None:
    selection = ("--state", "failed,stopped", "--job", "41")
    assert list(command_lines(NIGHT, "night", selection)) == [
        "output:  caliban logs --xgroup night --state failed,stopped --job 41",
        "re-run:  caliban resubmit --xgroup night --state failed,stopped --job 41",
    ]


def test_commands_that_would_do_nothing_are_not_shown() -> None:
    assert list(command_lines(Summary({"succeeded": 3}), "night")) == []


@given(st.text(min_size=1))
def test_a_shell_parses_the_commands_back_whatever_the_name_of_the_group(name: str) -> None:
    for line in command_lines(NIGHT, name):
        words = shlex.split(line.partition("  ")[2])
        assert f"--xgroup={name}" in words or words[words.index("--xgroup") + 1] == name
