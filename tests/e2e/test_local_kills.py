"""A command that is killed at each step of a local job, with a real Docker Engine: one container runs, or none."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import Researcher, researcher, wait_until
from tests.e2e.started import StartedCommand
from tests.sockets import listening_socket

__all__ = ["researcher"]

RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")
WRAPPER = """\
#!{python} -IS
import os, signal, subprocess, sys, time
real = {docker!r}
if sys.argv[1:2] != ["create"] or os.path.exists({once!r}):
    os.execv(real, [real, *sys.argv[1:]])
open({once!r}, "w").close()
if {when!r} == "before":
    os.kill(os.getppid(), signal.SIGKILL)
    while {is_late} and not os.path.exists({go_on!r}):
        time.sleep(0.02)
done = subprocess.run([real, *sys.argv[1:]])
if {when!r} == "after":
    os.kill(os.getppid(), signal.SIGKILL)
open({ended!r}, "w").close()
sys.exit(done.returncode)
"""


@pytest.fixture
def group(researcher: Researcher) -> Researcher:
    """A group with one failed job, whose code is fixed."""
    researcher.write("cpu.py", "raise SystemExit('a coding error')\n")
    assert researcher.caliban("run", "--xgroup", "g", "--nogpu", "cpu.py").code == 1
    researcher.write("cpu.py", "print('fixed')\n")
    return researcher


def install_wrapper(group: Researcher, directory: Path, when: str, *, is_late: bool = False) -> Path:
    """Put a ``docker`` command before the real one; the first ``docker create`` kills caliban.

    One that is late then waits for the file ``go_on``.

    Returns:
        A file that exists once that ``docker create`` has ended.
    """
    (directory / "bin").mkdir()
    docker = subprocess.run(["which", "docker"], capture_output=True, text=True, check=True).stdout.strip()
    ended = directory / "ended"
    wrapper = directory / "bin" / "docker"
    once = str(directory / "once")
    wrapper.write_text(
        WRAPPER.format(
            python=sys.executable,
            docker=docker,
            once=once,
            ended=str(ended),
            when=when,
            is_late=is_late,
            go_on=str(directory / "go_on"),
        )
    )
    wrapper.chmod(0o755)
    group.environ["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"
    return ended


@contextmanager
def intercepted_engine(before: Callable[[bytes], None], after: Callable[[bytes], None]) -> Iterator[str]:
    """Forward to the engine; call ``before`` with each piece of a request, and ``after`` with each of a response."""
    real = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")

    def forward(source: socket.socket, target: socket.socket, seen: Callable[[bytes], None]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                seen(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(real.path)
                last: list[bytes] = [b""]

                def request(data: bytes, last: list[bytes] = last) -> None:
                    last[0] = data
                    before(data)

                threading.Thread(target=forward, args=(client, engine, request), daemon=True).start()
                answered = lambda data, last=last: after(last[0])  # noqa: E731
                threading.Thread(target=forward, args=(engine, client, answered), daemon=True).start()

    with listening_socket() as (listening, path):
        threading.Thread(target=accept, daemon=True).start()
        yield f"unix://{path}"
        listening.shutdown(socket.SHUT_RDWR)


def runs(engine: Engine, group: Researcher) -> int:
    """Count the containers of the group's submissions that were ever started."""
    names = [str(name) for (name,) in group.rows("SELECT name FROM submissions")]
    found = engine.client.api.containers(all=True, filters={"label": "caliban.token"})
    own = [entry for entry in found if any(entry["Names"][0].lstrip("/").startswith(name) for name in names)]
    return sum(entry["State"] not in ("created",) for entry in own)


def leftovers(engine: Engine, group: Researcher) -> list[str]:
    names = [str(name) for (name,) in group.rows("SELECT name FROM submissions")]
    found = engine.client.api.containers(all=True, filters={"label": "caliban.token", "status": "created"})
    return [entry["Names"][0] for entry in found if any(name in entry["Names"][0] for name in names)]


def settle_and_complete(group: Researcher, engine: Engine) -> None:
    """Let the next commands settle and complete the group, and check that the experiment was run again once."""
    status = group.caliban("status", "--xgroup", "g")
    assert "Traceback" not in status.err
    wait_until(lambda: " RUNNING " not in group.caliban("status", "--xgroup", "g").out)
    again = group.caliban(*RESUBMIT)
    assert again.code == 0, again.err
    assert group.rows("SELECT status FROM jobs ORDER BY id") == [("FAILED",), ("SUCCEEDED",)]
    assert group.rows("SELECT count(*) FROM submissions WHERE state = 'OPEN'") == [(0,)]
    assert runs(engine, group) == 2
    assert leftovers(engine, group) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_command_that_is_killed_while_its_container_is_created_runs_it_once(
    group: Researcher, engine: Engine, tmp_path: Path, when: str
) -> None:
    ended = install_wrapper(group, tmp_path, when)
    with group.start(*RESUBMIT) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    wait_until(ended.exists)

    settle_and_complete(group, engine)


def test_a_client_that_creates_a_container_after_it_was_given_up_runs_nothing(
    group: Researcher, engine: Engine, tmp_path: Path
) -> None:
    ended = install_wrapper(group, tmp_path, "before", is_late=True)
    with group.start(*RESUBMIT) as process:
        process.communicate()

    again = group.caliban(*RESUBMIT)

    assert (again.code, ended.exists()) == (0, False), again.err
    (tmp_path / "go_on").touch()
    wait_until(ended.exists)
    assert group.rows("SELECT status FROM jobs ORDER BY id") == [("FAILED",), ("SUCCEEDED",)]
    assert runs(engine, group) == 2


@pytest.mark.parametrize("when", ["before the request", "before the response"])
@pytest.mark.parametrize("step", [b"/start ", b"/containers/json"])
def test_a_command_that_is_killed_around_a_request_runs_its_container_once(
    group: Researcher, engine: Engine, when: str, step: bytes
) -> None:
    processes: list[StartedCommand] = []

    def kill(request: bytes) -> None:
        if step in request.partition(b"\r\n")[0] and processes and processes[0].poll() is None:
            processes[0].kill()
            processes[0].wait()

    def ignore(request: bytes) -> None:
        pass

    before, after = (kill, ignore) if when == "before the request" else (ignore, kill)
    with intercepted_engine(before, after) as address:
        own = dict(group.environ)
        group.environ["DOCKER_HOST"] = address
        with group.start(*RESUBMIT) as process:
            processes.append(process)
            process.communicate()
        group.environ = own
    assert process.returncode == -signal.SIGKILL

    settle_and_complete(group, engine)


def test_a_job_that_docker_restarts_is_followed_to_its_last_end(researcher: Researcher) -> None:
    researcher.write(
        "cpu.py",
        "import pathlib, sys\npath = pathlib.Path.home() / 'count'\n"
        "n = len(path.read_text()) if path.exists() else 0\npath.write_text('x' * (n + 1))\n"
        "print('attempt', n, flush=True)\nsys.exit(0 if n == 2 else 1)\n",
    )

    result = researcher.caliban(
        "run", "--xgroup", "g", "--nogpu", "--docker_run_args", "--restart on-failure:5", "cpu.py"
    )

    assert researcher.rows("SELECT status FROM jobs") == [("SUCCEEDED",)], result.err
    assert (result.code, result.lines[:3]) == (0, ["attempt 0", "attempt 1", "attempt 2"])


def test_interactive_flags_and_environment_files_are_honoured(researcher: Researcher) -> None:
    researcher.write("cpu.py", "import os, sys\nprint(os.environ['COLOUR'], sys.stdout.isatty())\n")
    env = researcher.write("colour.env", "COLOUR=blue\n")

    result = researcher.caliban(
        "run", "--xgroup", "g", "--nogpu", "--docker_run_args", f"-it --env-file {env}", "cpu.py"
    )

    assert (result.code, result.lines[0].strip()) == (0, "blue True"), result.err


def test_a_job_with_rm_is_recorded_and_its_container_removed_by_whichever_command_sees_its_end(
    researcher: Researcher, engine: Engine
) -> None:
    researcher.write("cpu.py", "import time\nprint('runs', flush=True)\ntime.sleep(1)\nraise SystemExit(5)\n")
    command = ("run", "--xgroup", "g", "--nogpu", "--docker_run_args", "--rm", "cpu.py")
    assert researcher.caliban(*command).code == 1
    assert containers(researcher, engine) == []
    process = researcher.start(*RESUBMIT)
    assert process.stderr is not None
    while process.stderr.readline() != "runs\n":
        pass
    process.kill()
    process.communicate()
    [container] = containers(researcher, engine)
    engine.client.api.wait(container)

    shown = researcher.caliban("status", "--xgroup", "g")

    assert "FAILED" in shown.out, shown.err
    assert researcher.rows("SELECT status FROM jobs") == [("FAILED",), ("FAILED",)]
    assert [researcher.details(job)["ret_code"] for job in (1, 2)] == [5, 5]
    assert containers(researcher, engine) == []


def test_jobs_with_detach_run_at_the_same_time_while_the_command_ends(researcher: Researcher, engine: Engine) -> None:
    researcher.write("experiment.json", '[{}, {"x": 1}]')
    researcher.write("cpu.py", "import os, time\nwhile not os.path.exists('/shared/go_on'):\n    time.sleep(0.05)\n")
    shared = researcher.home / "shared"
    shared.mkdir()

    result = researcher.caliban(
        *("run", "--xgroup", "g", "--nogpu", "--docker_run_args", f"-d --rm -v {shared}:/shared"),
        *("--experiment_config", "experiment.json", "cpu.py"),
    )

    assert result.code == 0, result.err
    assert result.err.count("runs in the background") == 2
    running = containers(researcher, engine)
    assert [engine.client.api.inspect_container(each)["State"]["Running"] for each in running] == [True, True]
    assert researcher.rows("SELECT status FROM jobs") == [("RUNNING",), ("RUNNING",)]
    (shared / "go_on").touch()
    for each in running:
        engine.client.api.wait(each)
    assert researcher.caliban("status", "--xgroup", "g").code == 0
    assert researcher.rows("SELECT status FROM jobs") == [("SUCCEEDED",), ("SUCCEEDED",)]
    assert containers(researcher, engine) == []


def containers(researcher: Researcher, engine: Engine) -> list[str]:
    """Return the containers of the researcher's jobs that exist."""
    names = [str(name) for (name,) in researcher.rows("SELECT json_extract(details, '$.name') FROM jobs ORDER BY id")]
    found = engine.client.api.containers(all=True)
    return [name for name in names if any(f"/{name}" in each["Names"] for each in found)]


@pytest.mark.parametrize("text", ["--name x", "-l caliban.token=x", "--restart=always", "ubuntu", "--gpuz", "-v"])
def test_arguments_that_cannot_be_used_are_reported_before_anything_is_built(researcher: Researcher, text: str) -> None:
    result = researcher.caliban("run", "--xgroup", "g", "--nogpu", f"--docker_run_args={text}", "cpu.py")

    assert (result.code, "[docker-run-args-rejected]" in result.err, "Step" in result.err) == (2, True, False)
    assert not researcher.store.exists()


def test_a_second_ctrl_c_ends_a_command_whose_engine_is_stalled(group: Researcher) -> None:
    group.write("cpu.py", "import time\nprint('runs', flush=True)\ntime.sleep(20)\n")
    is_stalled, is_over = threading.Event(), threading.Event()

    def stall(data: bytes) -> None:
        if is_stalled.is_set():
            is_over.wait(60)

    with intercepted_engine(stall, stall) as address:
        group.environ["DOCKER_HOST"] = address
        process = group.start(*RESUBMIT)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() != ""
            wait_until(lambda: "RUNNING" in str(group.rows("SELECT status FROM jobs")))
            is_stalled.set()
            process.send_signal(signal.SIGINT)
            time.sleep(1.5)
            assert process.poll() is None  # it is stopping the job
            process.send_signal(signal.SIGINT)
            assert process.wait(3) == 130
        finally:
            process.kill()
            process.communicate()
            is_over.set()


def test_the_engine_of_a_job_is_recorded_and_another_one_cannot_be_asked(group: Researcher, engine: Engine) -> None:
    details = group.details(1)
    assert (details["engine"], details["engine_name"]) == (engine.client.info()["ID"], engine.client.info()["Name"])
    assert details["engine"]
    with sqlite3.connect(group.store) as connection:
        elsewhere = {"engine": "another", "engine_name": "catbus", "container_id": "f" * 64}
        changed = json.dumps({**details, **elsewhere})
        connection.execute("UPDATE jobs SET status = 'RUNNING', details = ?", (changed,))

    status, stop = group.caliban("status", "--xgroup", "g"), group.caliban("stop", "--xgroup", "g", "--yes")
    resubmit = group.caliban(*RESUBMIT)

    assert "the job is on another Docker Engine (catbus)" in status.out
    assert (stop.code, "[job-out-of-reach]" in stop.err) == (1, True)
    assert group.rows("SELECT status FROM jobs") == [("RUNNING",)], resubmit.err
