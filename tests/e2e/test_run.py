"""``caliban run`` with a real Docker Engine: arguments, image, credentials, interrupted submissions."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from caliban.attempts import Rerun, Submission
from caliban.images.docker.engine import Engine
from caliban.platforms.docker.job_spec import CREDENTIALS_PATH
from caliban.store.address import store_url
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal, new_token
from caliban.store.owner import to_text
from caliban.submission.setup import make_platforms
from tests.builders import owner
from tests.e2e.conftest import Researcher
from tests.fake_service import may_send
from tests.fakes import RecordingReporter

SHOW_ARGUMENTS = "import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(3)\n"
UNUSUAL_ARGUMENTS = [
    "with space",
    "",
    "'single' \"double\"",
    "$(touch /tmp/x)`id`",
    "new\nline",
    "ünïcode",
    "--",
    "a=b",
    "\\",
]


def test_arguments_are_passed_unchanged_also_by_a_rerun(researcher: Researcher) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)

    first = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", "--", *UNUSUAL_ARGUMENTS)
    second = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert json.loads(first.lines[0]) == UNUSUAL_ARGUMENTS
    assert json.dumps(UNUSUAL_ARGUMENTS) in second.err


def test_the_flags_of_an_experiment_follow_the_arguments(researcher: Researcher) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)
    experiments = '{"lr": 0.01, "verbose": true, "quiet": false, "name": "a b"}'

    result = researcher.caliban(
        "run", "--nogpu", "--experiment_config", "stdin", "cpu.py", "--", "x", stdin=experiments
    )

    assert json.loads(result.lines[0]) == ["x", "--lr", "0.01", "--verbose", "--name", "a b"]


def test_docker_run_args_are_recorded_and_used_by_a_rerun(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import os, sys\nprint(os.environ['COLOUR'])\nsys.exit(1)\n")

    first = researcher.caliban(
        "run", "--xgroup", "g", "--nogpu", "--docker_run_args", "-e COLOUR='dark blue'", "cpu.py"
    )
    second = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert first.lines[0] == "dark blue"
    assert "dark blue" in second.err.splitlines()


def test_the_exit_code_of_a_container_with_rm_is_recorded(researcher: Researcher) -> None:
    researcher.write("cpu.py", "raise SystemExit(5)\n")

    researcher.caliban("run", "--nogpu", "--docker_run_args", "--rm", "cpu.py")

    assert researcher.details(1)["ret_code"] == 5


def test_without_xgroup_a_group_is_created_and_reported(researcher: Researcher) -> None:
    result = researcher.caliban("run", "--nogpu", "cpu.py")

    ((name,),) = researcher.rows("SELECT name FROM experiment_groups")
    assert str(name).startswith("totoro-xgroup-2")
    assert f"experiment group {name}: 1 experiment\n" in result.err


def test_an_image_id_is_run_unchanged_and_not_rebuilt(researcher: Researcher, engine: Engine) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)
    built = researcher.caliban("build", "--nogpu", "cpu.py")
    image = built.out.strip()
    researcher.write("cpu.py", "print('newer code')")

    ran = researcher.caliban("run", "--xgroup", "g", "--nogpu", "--image_id", image, "cpu.py", "--", "x")
    preview = researcher.caliban("resubmit", "--xgroup", "g", "--dry_run")
    again = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert (built.code, ran.lines[0]) == (0, '["x"]')
    assert f"docker config 1, for 1 job: {image}, not rebuilt" in preview.out
    assert '["x"]' in again.err.splitlines()
    assert "rebuilding" not in again.err
    assert researcher.rows("SELECT DISTINCT container FROM jobs") == [(image,)]
    ((spec,),) = researcher.rows("SELECT spec FROM container_specs")
    assert json.loads(str(spec)) == {"image_id": image, "package": [["python"], ".", "cpu.py", None]}


def test_a_module_is_run_as_a_module(researcher: Researcher) -> None:
    researcher.write("trainer/__init__.py", "")
    researcher.write("trainer/train.py", "print(__package__)")

    assert researcher.caliban("run", "--nogpu", "trainer.train").lines[0] == "trainer"


CREDENTIALS = (
    "import os\npath = os.environ['GOOGLE_APPLICATION_CREDENTIALS']\nprint(path, open(path).read())\n"
    "print(os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY)\n"
)


@pytest.mark.parametrize("how", ["--cloud_key", "variable", "default"])
def test_google_credentials_are_mounted_read_only(researcher: Researcher, how: str) -> None:
    researcher.write("cpu.py", CREDENTIALS)
    key = researcher.home / ".config/gcloud/application_default_credentials.json"
    key.parent.mkdir(parents=True)
    if how != "default":
        key = researcher.home / "key, with comma.json"
    key.write_text("planted-secret")
    arguments = ["--cloud_key", str(key)] if how == "--cloud_key" else []
    if how == "variable":
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)

    result = researcher.caliban("run", "--nogpu", *arguments, "cpu.py")

    assert result.lines[:2] == [f"{CREDENTIALS_PATH} planted-secret", "False"], result.err


def test_credentials_are_neither_in_the_image_nor_in_the_store(researcher: Researcher, engine: Engine) -> None:
    researcher.write("cpu.py", CREDENTIALS)
    key = researcher.write("key.json", "planted-secret")
    researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)

    result = researcher.caliban("run", "--nogpu", "cpu.py")

    assert result.code == 0, result.err
    ((image,),) = researcher.rows("SELECT container FROM jobs")
    saved = b"".join(engine.client.images.get(str(image)).save())
    assert b"planted-secret" not in saved
    assert b"planted-secret" not in researcher.store.read_bytes()
    assert str(key).encode() not in researcher.store.read_bytes()


def test_credentials_in_docker_run_args_take_precedence(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import os\nprint(os.environ['GOOGLE_APPLICATION_CREDENTIALS'])\n")
    key = researcher.home / "key.json"
    key.write_text("{}")

    result = researcher.caliban(
        *("run", "--nogpu", "--docker_run_args", "-e GOOGLE_APPLICATION_CREDENTIALS=/mine", "cpu.py"),
        GOOGLE_APPLICATION_CREDENTIALS=str(key),
    )

    assert result.lines[0] == "/mine"


def test_a_missing_credentials_file_causes_a_warning(researcher: Researcher) -> None:
    result = researcher.caliban("run", "--nogpu", "cpu.py", GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json")

    assert result.code == 0
    assert "warning: credentials file not found: /nowhere/key.json" in result.err


def test_a_missing_cloud_key_is_an_error(researcher: Researcher) -> None:
    result = researcher.caliban("run", "--nogpu", "--cloud_key", "/nowhere/key.json", "cpu.py")

    assert (result.code, "[key-not-found]" in result.err) == (2, True)


def open_submission(researcher: Researcher, token: str) -> Submission:
    """Record a submission that reruns job 2, as a process does immediately before it starts the container."""
    ((spec,),) = researcher.rows("SELECT spec FROM job_specs WHERE id = 2")
    platforms = make_platforms(researcher.environ, researcher.home, RecordingReporter())
    with open_store(store_url({}, researcher.home), Access.WRITE, RecordingReporter()) as store:
        journal = Journal(store)
        submission = journal.open(
            experiment_id=2,
            platform="LOCAL",
            spec=json.loads(str(spec)),
            destination=platforms.get("LOCAL").destination(None),
            name=f"caliban-test-{token}",
            token=token,
            kind=Rerun(2),
            user="totoro",
        )
        journal.mark_sent(submission)
        return submission


def set_process_of_batches(store: Path, pid: int) -> None:
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE batches SET owner = ?", (to_text(owner(pid)),))


@pytest.mark.parametrize("was_accepted", [True, False])
def test_an_interrupted_submission_is_settled_by_the_next_command(
    group_with_a_failure: Researcher, was_accepted: bool
) -> None:
    researcher = group_with_a_failure
    ended = subprocess.Popen(["true"])
    ended.wait()
    token = new_token()
    submission = open_submission(researcher, token)
    if was_accepted:
        ((spec,),) = researcher.rows("SELECT spec FROM job_specs WHERE id = 2")
        platforms = make_platforms(researcher.environ, researcher.home, RecordingReporter())
        platforms.get("LOCAL").submit(json.loads(str(spec)), submission, may_send)
    set_process_of_batches(researcher.store, ended.pid)

    result = researcher.caliban("status", "--xgroup", "resubmit_test")

    expected = [("DONE", 3)] if was_accepted else [("ABANDONED", None)]
    assert researcher.rows(f"SELECT state, job_id FROM submissions WHERE token = '{token}'") == expected
    assert researcher.rows("SELECT count(*) FROM jobs") == [(3 if was_accepted else 2,)]
    assert ("recorded job 3" if was_accepted else "did not reach LOCAL") in result.err


def test_an_experiment_that_another_process_is_submitting_is_not_submitted(group_with_a_failure: Researcher) -> None:
    researcher = group_with_a_failure
    open_submission(researcher, new_token())

    result = researcher.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")
    preview = researcher.caliban("resubmit", "--xgroup", "resubmit_test", "--dry_run")

    assert researcher.rows("SELECT count(*) FROM jobs") == [(2,)]
    assert result.code == 0
    assert f"being submitted by totoro on {os.uname().nodename} (process {os.getpid()})" in preview.out
