"""docs/resubmit.md: what its ``console`` blocks show is what the commands write, one after the other."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from caliban.cli.command_line import parse
from caliban.cli.console import Console
from tests.e2e.conftest import Researcher
from tests.test_docs import page

PAGE = "docs/resubmit.md"
SCRIPT = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seed", type=int)
args = parser.parse_args()
if args.lr > 0.05 and args.seed == 3:
    raise ValueError("loss is nan")
"""
RUN = ("run", "--xgroup", "night", "--nogpu", "--experiment_config", "night.json", "train.py")


@dataclass(frozen=True)
class Example:
    """A command of the page, and the lines that it shows."""

    command: str
    lines: tuple[str, ...]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(PAGE), re.MULTILINE | re.DOTALL)


def examples() -> list[Example]:
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            found.append(Example(command, tuple(lines)))
    return found


def outputs(commands: list[str], researcher: Researcher) -> list[str]:
    """Run commands in one shell; return what each writes to both streams."""
    script = "".join(f"echo @@@; {{ {command}\n}} 2>&1\n" for command in commands)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, **researcher.environ, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], cwd=researcher.project, env=environ, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.stdout.split("@@@\n")[1:]


def missing(example: Example, output: str) -> str | None:
    """Return the first line of an example that does not come in its order; None where all do."""
    left = iter(output.splitlines())
    for line in example.lines:
        pattern = ".*".join(map(re.escape, line.split("...")))
        if line != "..." and not any(re.fullmatch(pattern, each) for each in left):
            return line
    return None


@pytest.mark.slow
def test_the_page_shows_what_its_commands_write(researcher: Researcher) -> None:
    researcher.write("train.py", SCRIPT)
    researcher.write("night.json", '{"lr": [0.1, 0.2, 0.01], "seed": 3}')
    assert researcher.caliban(*RUN).code == 1
    shown = examples()
    written = outputs([example.command for example in shown], researcher)
    assert len(written) == len(shown) > 10
    wrong = [
        (each.command, line, text)
        for each, text in zip(shown, written, strict=True)
        if (line := missing(each, text)) is not None
    ]
    assert wrong == []


def test_the_commands_that_run_elsewhere_have_these_flags() -> None:
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 9
    for _, *arguments in commands:
        assert parse(["caliban", *arguments], Console()).xgroup == "night"
