"""Arguments are passed to jobs on AI Platform unchanged, also by a rerun, and never reach a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Researcher
from tests.standins.ml_v1 import MlV1

from .conftest import PUSHED

CREATE = "ml.projects.jobs.create"
UNUSUAL = [
    *(
        "with space",
        "",
        "'single' \"double\"",
        "new\nline",
        "tab\t",
        "ünïcode 日本",
        "🦊",
        "--",
        "a=b",
        "\\",
        "%s {} \\n",
    ),
    *("*", "~", "!history", "# no comment", "a;b|c&d>e", "\x01"),
]


def unusual_arguments(marker: Path) -> list[str]:
    return [*UNUSUAL, f"$(touch {marker})", f"`touch {marker}`", f"; touch {marker}", f"$HOME & touch {marker}"]


def submit(user: Researcher, *arguments: str) -> None:
    result = user.caliban("cloud", "--platform", "caip", "--xgroup", "g", "--nogpu", "--image_tag", PUSHED, *arguments)
    assert result.code == 0, result.err


def submitted_arguments(service: MlV1) -> list[object]:
    # of the jobs, not of the requests: a request for a name that is taken is refused, and the next name tried
    return [job.body["trainingInput"].get("args") for job in service.jobs.all()]


def test_arguments_are_passed_unchanged_also_by_a_rerun(user: Researcher, caip: MlV1, tmp_path: Path) -> None:
    arguments = unusual_arguments(tmp_path / "marker")

    submit(user, "cpu.py", "--", *arguments)
    caip.jobs.set_state(caip.jobs.all()[0].id, "FAILED")
    again = user.caliban("resubmit", "--xgroup", "g", "--yes")

    assert again.code == 0, again.err
    assert submitted_arguments(caip) == [arguments, arguments]
    assert not (tmp_path / "marker").exists()


def test_flags_from_an_experiment_file_are_passed_unchanged(user: Researcher, caip: MlV1, tmp_path: Path) -> None:
    arguments = unusual_arguments(tmp_path / "marker")
    user.write("experiment.json", json.dumps({"text": arguments}))

    submit(user, "--experiment_config", "experiment.json", "cpu.py")

    assert sorted(map(str, submitted_arguments(caip))) == sorted(str(["--text", word]) for word in arguments)
    assert not (tmp_path / "marker").exists()


def test_labels_are_sanitized_and_never_reach_a_shell(user: Researcher, caip: MlV1, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    submit(user, "--label", f"team=$(touch {marker}) `touch {marker}`\nÜber", "cpu.py")

    ((label, marker_made),) = [(body["labels"]["team"], marker.exists()) for body in caip.bodies(CREATE)]
    assert label.startswith("touch")
    assert not set(label) - set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert not marker_made


@pytest.mark.parametrize("command", ["run", "cloud"])
def test_an_argument_that_is_not_text_is_rejected_before_anything_is_written(
    user: Researcher, caip: MlV1, command: str
) -> None:
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"caliban", command.encode(), b"--nogpu", b"cpu.py", b"--", b"a\xffb"],
        cwd=user.project,
        env=user.environ,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False), done.stderr
    assert b"[argument-not-text]" in done.stderr
    assert not user.store.exists()
