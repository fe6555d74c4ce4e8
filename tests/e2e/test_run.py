"""What runs in the container is what was asked for: arguments, docker arguments, image, credentials."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from caliban.platforms.base import Platforms
from caliban.platforms.docker.job_spec import CREDENTIALS_PATH
from caliban.records import PlatformName
from caliban.store.address import store_url
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal, new_token
from caliban.submission.setup import make_platforms
from tests.e2e.conftest import Researcher
from tests.images.helpers import RecordingReporter

SHOW_ARGUMENTS = "import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(3)\n"
AWKWARD = ["with space", "", "'single' \"double\"", "$(touch /tmp/x)`id`", "new\nline", "ünïcode", "--", "a=b", "\\"]


def test_arguments_are_passed_unchanged_also_by_a_rerun(researcher: Researcher) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)

    first = researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py", "--", *AWKWARD)
    second = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert json.loads(first.lines[0]) == AWKWARD
    assert json.dumps(AWKWARD) in second.out


def test_the_flags_of_an_experiment_follow_the_arguments(researcher: Researcher) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)
    experiments = '{"lr": 0.01, "verbose": true, "quiet": false, "name": "a b"}'

    answer = researcher.caliban(
        "run", "--nogpu", "--experiment_config", "stdin", "cpu.py", "--", "x", stdin=experiments
    )

    assert json.loads(answer.lines[0]) == ["x", "--lr", "0.01", "--verbose", "--name", "a b"]


def test_docker_run_args_are_recorded_and_used_by_a_rerun(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import os, sys\nprint(os.environ['COLOUR'])\nsys.exit(1)\n")

    first = researcher.caliban(
        "run", "--xgroup", "g", "--nogpu", "--docker_run_args", "-e COLOUR='dark blue'", "cpu.py"
    )
    second = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert first.lines[0] == "dark blue"
    assert "dark blue" in second.lines


def test_a_container_with_rm_keeps_its_exit_code(researcher: Researcher) -> None:
    researcher.write("cpu.py", "raise SystemExit(5)\n")

    researcher.caliban("run", "--nogpu", "--docker_run_args", "--rm", "cpu.py")

    assert researcher.details(1)["ret_code"] == 5


def test_without_xgroup_a_group_is_created_and_reported(researcher: Researcher) -> None:
    answer = researcher.caliban("run", "--nogpu", "cpu.py")

    ((name,),) = researcher.rows("SELECT name FROM experiment_groups")
    assert str(name).startswith("totoro-xgroup-2")
    assert f"experiment group {name}: 1 experiment\n" in answer.err


def test_an_image_id_is_run_unchanged_and_not_rebuilt(researcher: Researcher, engine: Engine) -> None:
    researcher.write("cpu.py", SHOW_ARGUMENTS)
    built = researcher.caliban("build", "--nogpu", "cpu.py")
    image = built.out.strip()
    researcher.write("cpu.py", "print('newer code')")

    ran = researcher.caliban("run", "--xgroup", "g", "--nogpu", "--image_id", image, "cpu.py", "--", "x")
    preview = researcher.caliban("resubmit", "--xgroup", "g", "--dry_run")
    again = researcher.caliban("resubmit", "--xgroup", "g", "--yes")

    assert (built.code, ran.lines[0]) == (0, '["x"]')
    assert f"docker config 1, for 1 job: {image} as it is" in preview.out
    assert '["x"]' in again.lines
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
    words = ["--cloud_key", str(key)] if how == "--cloud_key" else []
    if how == "variable":
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)

    answer = researcher.caliban("run", "--nogpu", *words, "cpu.py")

    assert answer.lines[:2] == [f"{CREDENTIALS_PATH} planted-secret", "False"], answer.err


def test_credentials_are_neither_in_the_image_nor_in_the_store(researcher: Researcher, engine: Engine) -> None:
    researcher.write("cpu.py", CREDENTIALS)
    key = researcher.write("key.json", "planted-secret")
    researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)

    answer = researcher.caliban("run", "--nogpu", "cpu.py")

    assert answer.code == 0, answer.err
    ((image,),) = researcher.rows("SELECT container FROM jobs")
    saved = b"".join(engine.client.images.get(str(image)).save())
    assert b"planted-secret" not in saved
    assert b"planted-secret" not in researcher.store.read_bytes()
    assert str(key).encode() not in researcher.store.read_bytes()


def test_credentials_in_docker_run_args_take_precedence(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import os\nprint(os.environ['GOOGLE_APPLICATION_CREDENTIALS'])\n")
    key = researcher.home / "key.json"
    key.write_text("{}")

    answer = researcher.caliban(
        *("run", "--nogpu", "--docker_run_args", "-e GOOGLE_APPLICATION_CREDENTIALS=/mine", "cpu.py"),
        GOOGLE_APPLICATION_CREDENTIALS=str(key),
    )

    assert answer.lines[0] == "/mine"


def test_a_missing_credentials_file_causes_a_warning(researcher: Researcher) -> None:
    answer = researcher.caliban("run", "--nogpu", "cpu.py", GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json")

    assert answer.code == 0
    assert "warning: credentials file not found: /nowhere/key.json" in answer.err


def test_a_missing_cloud_key_is_an_error(researcher: Researcher) -> None:
    answer = researcher.caliban("run", "--nogpu", "--cloud_key", "/nowhere/key.json", "cpu.py")

    assert (answer.code, "[key-not-found]" in answer.err) == (2, True)


def local_platforms(researcher: Researcher) -> Platforms:
    return make_platforms(researcher.environ, researcher.home, RecordingReporter())


@pytest.mark.parametrize("reached", [True, False])
def test_an_interrupted_submission_is_settled_by_the_next_command(
    group_with_a_failure: Researcher, reached: bool
) -> None:
    researcher = group_with_a_failure
    gone = subprocess.Popen(["true"])
    gone.wait()
    with open_store(store_url({}, researcher.home), Access.WRITE, RecordingReporter()) as store:
        journal = Journal(store)
        ((spec,),) = researcher.rows("SELECT spec FROM job_specs WHERE id = 2")
        token = new_token()
        submission = journal.open(
            experiment_id=2,
            platform=PlatformName.LOCAL,
            spec=json.loads(str(spec)),
            target={},
            name=f"caliban-test-{token}",
            token=token,
            resubmits=2,
            user="totoro",
        )
    if reached:
        local_platforms(researcher).get(PlatformName.LOCAL).submit(json.loads(str(spec)), submission)
    make_owner_gone(researcher.store, gone.pid)

    answer = researcher.caliban("status", "--xgroup", "resubmit_test")

    expected = [("DONE", 3)] if reached else [("ABANDONED", None)]
    assert researcher.rows(f"SELECT state, job_id FROM submissions WHERE token = '{token}'") == expected
    assert researcher.rows("SELECT count(*) FROM jobs") == [(3 if reached else 2,)]
    assert ("was started by an interrupted command" if reached else "never reached LOCAL") in answer.err


def make_owner_gone(store: Path, pid: int) -> None:
    import sqlite3

    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE submissions SET pid = ? WHERE state = 'OPEN'", (pid,))


def test_an_experiment_that_another_process_is_submitting_is_not_submitted(group_with_a_failure: Researcher) -> None:
    researcher = group_with_a_failure
    with open_store(store_url({}, researcher.home), Access.WRITE, RecordingReporter()) as store:
        ((spec,),) = researcher.rows("SELECT spec FROM job_specs WHERE id = 2")
        Journal(store).open(
            experiment_id=2,
            platform=PlatformName.LOCAL,
            spec=json.loads(str(spec)),
            target={},
            name="caliban-test",
            token=new_token(),
            resubmits=2,
            user="totoro",
        )

    answer = researcher.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")
    preview = researcher.caliban("resubmit", "--xgroup", "resubmit_test", "--dry_run")

    assert researcher.rows("SELECT count(*) FROM jobs") == [(2,)]
    assert answer.code == 0
    assert f"being submitted by totoro on {os.uname().nodename} (process {os.getpid()})" in preview.out
