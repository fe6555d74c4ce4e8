"""Local runs as they are in real life: paths of docker flags, signals, the last line of a job."""

from __future__ import annotations

import io
import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import Researcher, running_jobs, wait_until
from tests.e2e.started import StartedCommand

RUN = ("run", "--xgroup", "g", "--nogpu")
RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")
SHOW_INPUTS = """
import os, pathlib, sys
print(pathlib.Path("/data/name").read_text(), os.environ["OWNER"], flush=True)
sys.exit(1)
"""
INPUTS = "-v ./data:/data:ro --env-file .env"


@pytest.fixture
def with_inputs(researcher: Researcher) -> Researcher:
    """A project with data and a file of variables; the directory of another project has both as well."""
    researcher.write("cpu.py", SHOW_INPUTS)
    for directory, name in ((researcher.project, "mine"), (researcher.home / "other", "theirs")):
        (directory / "data").mkdir(parents=True)
        (directory / "data" / "name").write_text(name)
        (directory / ".env").write_text(f"OWNER={name}\n")
    return researcher


def test_a_rerun_from_another_directory_uses_the_files_of_the_project(with_inputs: Researcher) -> None:
    first = with_inputs.caliban(*RUN, "--docker_run_args", INPUTS, "cpu.py")
    again = with_inputs.caliban(*RESUBMIT, cwd=with_inputs.home / "other")

    assert (first.lines[0], "mine mine" in again.err.splitlines()) == ("mine mine", True)


def test_relative_paths_that_caliban_0_4_2_recorded_are_those_of_the_project(with_inputs: Researcher) -> None:
    with_inputs.caliban(*RUN, "--docker_run_args", INPUTS, "cpu.py")
    make_relative(with_inputs)
    again = with_inputs.caliban(*RESUBMIT, cwd=with_inputs.home / "other")

    assert "mine mine" in again.err.splitlines()


def test_relative_paths_of_a_job_without_a_recorded_directory_are_an_error(
    with_inputs: Researcher, base_image: str
) -> None:
    with_inputs.caliban(*RUN, "--image_id", base_image, "--docker_run_args", INPUTS, "cpu.py", "--", "false")
    make_relative(with_inputs)
    again = with_inputs.caliban(*RESUBMIT, cwd=with_inputs.home / "other")

    assert 'cause: "-v ./data:/data:ro" is relative to a directory that was not recorded' in again.err
    assert with_inputs.rows("SELECT count(*) FROM jobs") == [(1,)]


def make_relative(researcher: Researcher) -> None:
    """Change the recorded arguments to what caliban 0.4.2 records."""
    with sqlite3.connect(researcher.store) as connection:
        ((text,),) = connection.execute("SELECT spec FROM job_specs").fetchall()
        command = json.loads(text)
        command["command"] = [
            word.replace(f"{researcher.project}/data", "./data").replace(f"{researcher.project}/.env", ".env")
            for word in command["command"]
        ]
        connection.execute("UPDATE job_specs SET spec = ?", (json.dumps(command),))


def test_nothing_is_built_for_a_directory_that_docker_would_create_as_root(researcher: Researcher) -> None:
    result = researcher.caliban(*RUN, "--docker_run_args", "-v ./out:/out", "cpu.py")

    assert (result.code, "[docker-run-args-rejected]" in result.err, "Step" in result.err) == (2, True, False)
    assert not (researcher.project / "out").exists()


def exit_code(engine: Engine, researcher: Researcher) -> int:
    state = engine.client.api.inspect_container(str(researcher.details(1)["name"]))["State"]
    assert state["Status"] == "exited"
    return int(state["ExitCode"])


def start(researcher: Researcher, processes: list[StartedCommand], *arguments: str) -> StartedCommand:
    """Start a command, and wait until its job has written its first line."""
    process = researcher.start(*RUN, *arguments)
    processes.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    return process


def test_sigterm_ends_a_program_that_does_not_handle_it(
    researcher: Researcher, engine: Engine, processes: list[StartedCommand]
) -> None:
    researcher.write("cpu.py", "import time\nprint('runs', flush=True)\ntime.sleep(600)\n")
    process = start(researcher, processes, "cpu.py")
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert exit_code(engine, researcher) == 128 + signal.SIGTERM


SAVES = """
import signal, sys, time
def save(number, frame):
    time.sleep(0.7)
    print("saved after", signal.Signals(number).name, flush=True)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, save)
print("runs", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("--stop-timeout 0", 137), ("--stop-timeout 60", 0), ("--stop-signal SIGUSR1", 0), ("--init=false", 0)],
)
@pytest.mark.parametrize("is_stopped_elsewhere", [True, False])
def test_a_job_has_the_signal_and_the_time_that_it_asks_for(
    researcher: Researcher,
    engine: Engine,
    processes: list[StartedCommand],
    arguments: str,
    code: int,
    is_stopped_elsewhere: bool,
) -> None:
    researcher.write("cpu.py", SAVES)
    process = start(researcher, processes, "--docker_run_args", arguments, "cpu.py")
    if is_stopped_elsewhere:
        assert researcher.caliban("stop", "--xgroup", "g", "--yes").code == 0
    else:
        process.send_signal(signal.SIGTERM)

    process.wait(60)
    assert exit_code(engine, researcher) == code
    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]
    sent = "SIGUSR1" if "USR1" in arguments else "SIGTERM"
    logs = engine.client.containers.get(str(researcher.details(1)["name"])).logs().decode()
    assert logs == "runs\n" + ("" if code else f"saved after {sent}\n")


def test_the_signal_that_an_image_asks_for_is_sent(
    researcher: Researcher, engine: Engine, base_image: str, processes: list[StartedCommand]
) -> None:
    lines = [f"FROM {base_image}", "STOPSIGNAL SIGINT", f"CMD {json.dumps(['python', '-c', SAVES])}"]
    image, _ = engine.client.images.build(fileobj=io.BytesIO("\n".join(lines).encode()), rm=True)
    process = start(researcher, processes, "--image_id", str(image.id), "cpu.py")
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    logs = engine.client.containers.get(str(researcher.details(1)["name"])).logs().decode()
    assert logs == "runs\nsaved after SIGINT\n"


def test_a_second_ctrl_c_kills_a_job_that_has_much_time(
    researcher: Researcher, engine: Engine, processes: list[StartedCommand]
) -> None:
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('runs', flush=True)\ntime.sleep(600)\n"
    researcher.write("cpu.py", code)
    process = start(researcher, processes, "--docker_run_args", "--stop-timeout 3600", "cpu.py")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "to kill it at once" in line:
            break
    time.sleep(0.5)  # a signal that comes earlier is the same key press
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert exit_code(engine, researcher) == 128 + signal.SIGKILL
    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]


def test_no_last_line_is_lost_and_our_lines_start_on_their_own(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import sys, time\ntime.sleep(0.3)\nprint('last line of', sys.argv[2], end='')\n")
    researcher.write("experiment.json", json.dumps({"n": list(range(5))}))
    words = [*RUN, "--experiment_config", "experiment.json", "cpu.py"]
    both = researcher.project.parent / "both"
    with both.open("w") as output:
        process = subprocess.run(
            [sys.executable, "-m", "caliban", *words],
            cwd=researcher.project,
            env=researcher.environ,
            stdout=output,
            stderr=output,
            check=False,
        )

    assert process.returncode == 0
    lines = both.read_text().splitlines()
    assert [line for line in lines if "last line" in line] == [f"last line of {n}" for n in range(5)]
    assert [line for line in lines if line.endswith(": succeeded")] == [f"job {n}: succeeded" for n in range(1, 6)]


def test_warnings_of_the_docker_client_are_shown(researcher: Researcher, engine: Engine) -> None:
    old = engine.client.version()["Version"].startswith("20.10")
    flag = "--kernel-memory 50m" if old else "--memory 100m --oom-kill-disable=false"
    researcher.write("cpu.py", "")
    result = researcher.caliban(*RUN, "--docker_run_args", flag, "cpu.py")

    assert ("warning: docker: Specifying a kernel memory limit is deprecated" in result.err) == old


def test_a_job_is_stopped_at_its_timeout(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import time\ntime.sleep(600)\n")
    result = researcher.caliban(*RUN, "--timeout", "1", "cpu.py")

    assert (result.code, "job 1 ran longer than its --timeout of 1 s: stopping it ..." in result.err) == (1, True)
    assert {key: researcher.details(1).get(key) for key in ("ret_code", "cause", "reason")} == {
        "ret_code": 143,
        "cause": "timeout",
        "reason": "ran longer than its --timeout of 1 s",
    }
    assert researcher.rows("SELECT status FROM jobs") == [("FAILED",)]
