"""The morning after: a group of 20 experiments ran at night, 8 failed, and somebody has cleaned up since."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import CommandResult, Researcher, new_researcher
from tests.forkserver import ForkServer
from tests.json_documents import checked

GROUP = ("--xgroup", "night")
SCRIPT = """
import argparse
import time

import model

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--mode", default="train")
args = parser.parse_args()
print("training with", args.lr, flush=True)
if args.mode == "memory":
    data = [bytearray(1 << 20) for _ in range(1 << 20)]
if args.mode == "forever":
    time.sleep(600)
model.train(args.lr, args.mode)
"""
MODEL = """
def train(lr, mode):
    if lr < 0:
        raise ValueError(f"loss is nan at step {round(-lr * 100)}")
    return {"train": lr}[mode]
"""
SUCCEEDING = [{"lr": step / 100} for step in range(1, 13)]
FAILING: list[dict[str, Any]] = [
    {"lr": -0.1},
    {"lr": -0.2},
    {"lr": -0.3},
    {"lr": 0.5, "mode": "test"},
    {"rl": 0.5},
    {"lr": "high"},
    {"lr": 0.6, "mode": "memory"},
    {"lr": 0.7, "mode": "forever"},
]
SUMMARY = """\
20 experiments: 12 succeeded, 8 failed
  3 code_error      ValueError: loss is nan at step ... (model.py:4)
  1 code_error      KeyError: 'test' (model.py:5)
  1 code_error      exit code 2: cpu.py: error: argument --lr: invalid float value: 'high'
  1 code_error      exit code 2: cpu.py: error: the following arguments are required: --lr
  1 out_of_memory   exit code 137 (SIGKILL)
  1 timeout         exit code 143 (SIGTERM)
output:  caliban logs --xgroup night --failed
re-run:  caliban resubmit --xgroup night
"""
REASONS = [
    "exit code 1: ValueError: loss is nan at step 10",
    "exit code 1: ValueError: loss is nan at step 20",
    "exit code 1: ValueError: loss is nan at step 30",
    "exit code 1: KeyError: 'test'",
    "exit code 2: cpu.py: error: the following arguments are required: --lr",
    "exit code 2: cpu.py: error: argument --lr: invalid float value: 'high'",
    "out of memory, exit code 137 (SIGKILL)",
    "timed out, exit code 143 (SIGTERM): ran longer than its --timeout of 6 s",
]
TELLING_LINES = [
    *("ValueError: loss is nan at step 10", "ValueError: loss is nan at step 20", "ValueError: loss is nan at step 30"),
    "KeyError: 'test'",
    "cpu.py: error: the following arguments are required: --lr",
    "cpu.py: error: argument --lr: invalid float value: 'high'",
    "training with 0.6",
    "training with 0.7",
]


@dataclass
class Look:
    """What the commands of the morning show."""

    status: CommandResult
    logs: CommandResult
    document: CommandResult
    preview: CommandResult


@dataclass
class Morning:
    """The run of the night, and two looks: before the containers were removed, and afterwards."""

    run: CommandResult
    before: Look
    after: Look
    containers: list[str]


def look(researcher: Researcher) -> Look:
    return Look(
        researcher.caliban("status", *GROUP),
        researcher.caliban("logs", *GROUP, "--failed", "--tail", "3"),
        researcher.caliban("status", *GROUP, "--json"),
        researcher.caliban("resubmit", *GROUP, "--dry_run"),
    )


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory, base_image: str, fork_server: ForkServer) -> Morning:
    researcher = new_researcher(tmp_path_factory.mktemp("night"), base_image, fork_server)
    researcher.write("cpu.py", SCRIPT)
    researcher.write("model.py", MODEL)
    researcher.write("experiment.json", json.dumps([*SUCCEEDING, *FAILING]))
    label = f"night={uuid.uuid4()}"
    limits = f"--memory 100m --memory-swap 100m --label {label}"
    run = researcher.caliban(
        *("run", *GROUP, "--nogpu", "--experiment_config", "experiment.json", "--timeout", "6s"),
        *("--docker_run_args", limits, "cpu.py"),
    )
    before = look(researcher)
    only_ours = f"label={label}"
    subprocess.run(["docker", "container", "prune", "-f", "--filter", only_ours], check=True, capture_output=True)
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", only_ours], check=True, capture_output=True, text=True
    ).stdout.split()
    return Morning(run, before, look(researcher), listed)


@pytest.fixture(params=["before", "after"])
def seen(request: pytest.FixtureRequest, morning: Morning) -> Look:
    """What is seen while the containers exist, and after ``docker container prune``."""
    assert morning.containers == []
    found = getattr(morning, request.param)
    assert isinstance(found, Look)
    return found


def summary_of(text: str) -> str:
    return text[text.index("20 experiments:") :] if "20 experiments:" in text else text


def test_the_run_ends_with_a_summary(morning: Morning) -> None:
    assert morning.run.code == 1
    assert summary_of(morning.run.err) == SUMMARY


def test_status_groups_the_failures(seen: Look) -> None:
    assert (seen.status.code, seen.status.err) == (0, "")
    assert summary_of(seen.status.out) == SUMMARY


def test_status_has_the_reason_of_each_job(seen: Look) -> None:
    failed = [line for line in seen.status.lines if " FAILED " in line]
    assert [re.sub(r"^.*? \((.*)\)$", r"\1", line) for line in failed] == REASONS


def test_the_last_lines_of_each_failed_job_tell_the_reason(seen: Look) -> None:
    assert (seen.logs.code, seen.logs.err) == (0, "")
    jobs = [job.splitlines()[1:] for job in seen.logs.out.split("== job ")[1:]]
    # the engine reads standard output and standard error side by side: which line is the last one may differ
    assert [line for line, lines in zip(TELLING_LINES, jobs, strict=True) if line not in lines] == []
    assert max(map(len, jobs)) == 3


def test_a_script_learns_which_experiments_failed_and_why(seen: Look) -> None:
    [group] = checked(seen.document.out)["groups"]
    failed = [job for experiment in group["experiments"] for job in experiment["jobs"] if job["state"] == "FAILED"]
    assert [(job["cause"], job["error"] and job["error"]["frame"]) for job in failed] == [
        *[("code_error", "model.py:4")] * 3,
        ("code_error", "model.py:5"),
        *[("code_error", None)] * 2,
        ("out_of_memory", None),
        ("timeout", None),
    ]
    assert [job["reason"] for job in failed] == REASONS


def test_what_failed_can_be_run_again(seen: Look) -> None:
    assert seen.preview.code == 0
    assert len(re.findall(r"^  job \d+ +FAILED", seen.preview.out, re.MULTILINE)) == 8
