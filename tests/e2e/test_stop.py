"""``caliban stop`` with containers on this machine; ``test_cloud.py`` and ``test_cluster.py`` stop remote jobs."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import RUN, Researcher, running_jobs, wait_until
from tests.e2e.started import StartedCommand

STOP = ("stop", "--xgroup", "resubmit_test")


def test_a_running_container_is_stopped_and_recorded(orphaned: Researcher, engine: Engine) -> None:
    result = orphaned.caliban(*STOP, stdin="y\n")

    assert result.code == 0, result.err
    assert result.lines[:2] == ["the following jobs would be stopped:", "cpu.py --foo 3 --sleep 6000"]
    assert "\n stop 1 job? [yN]: y\n" in result.err
    assert result.err.endswith("1 job: 1 stopped\n")
    assert orphaned.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert engine.client.containers.get(str(orphaned.details(1)["name"])).status == "exited"


@pytest.mark.parametrize(("arguments", "code"), [(("--dry_run",), 0), ((), 1)])
def test_a_dry_run_or_the_end_of_input_stops_nothing(
    orphaned: Researcher, arguments: tuple[str, ...], code: int
) -> None:
    assert orphaned.caliban(*STOP, *arguments).code == code

    assert orphaned.rows("SELECT status FROM jobs") == [("RUNNING",)]


def test_without_xgroup_the_jobs_of_all_groups_are_stopped(orphaned: Researcher) -> None:
    assert orphaned.caliban("stop", "--yes").code == 0

    assert orphaned.rows("SELECT status FROM jobs") == [("STOPPED",)]


def test_stop_does_nothing_when_all_jobs_have_ended(group_with_a_failure: Researcher) -> None:
    result = group_with_a_failure.caliban(*STOP, "--yes")

    assert (result.code, result.out) == (0, "no running or queued jobs\n")


def test_a_job_that_cannot_be_stopped_is_reported(orphaned: Researcher) -> None:
    result = orphaned.caliban(*STOP, "--yes", DOCKER_HOST="unix:///nowhere.sock")

    assert result.code == 1
    assert "[docker-unreachable]" in result.err
    assert orphaned.rows("SELECT status FROM jobs") == [("RUNNING",)]


@pytest.fixture
def open_run(researcher: Researcher, processes: list[StartedCommand]) -> StartedCommand:
    """``caliban run`` in another terminal, which runs the first of three jobs."""
    researcher.write("experiment.json", '{"sleep": [6000, 6001, 6002]}')
    process = researcher.start(*RUN)
    processes.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    return process


def test_an_open_run_ends_when_its_group_is_stopped(
    researcher: Researcher, open_run: StartedCommand, engine: Engine
) -> None:
    result = researcher.caliban(*STOP, "--yes")
    _, err = open_run.communicate(timeout=60)

    assert (result.code, open_run.returncode) == (0, 1), (result, err)
    assert result.err.endswith("1 job: 1 stopped\n2 queued jobs cancelled before submission\n")
    assert "job 1: stopped by totoro on " in err
    assert "error: not submitted: stopped by totoro on " in err
    assert "job 1        STOPPED" in err
    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert researcher.rows("SELECT state FROM submissions") == [("DONE",), ("ABANDONED",), ("ABANDONED",)]
    assert engine.client.containers.get(str(researcher.details(1)["name"])).status == "exited"


def test_after_a_stop_the_group_can_be_resubmitted(researcher: Researcher, open_run: StartedCommand) -> None:
    researcher.caliban(*STOP, "--yes")
    open_run.communicate(timeout=60)
    researcher.replace("cpu.py", "time.sleep(args.sleep / 10)", "")

    result = researcher.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")

    assert result.code == 0, result.err
    assert researcher.rows("SELECT status FROM jobs WHERE id > 1") == [("SUCCEEDED",)] * 3


def test_a_stopped_job_stays_stopped_though_its_program_exits_with_0(
    researcher: Researcher, processes: list[StartedCommand]
) -> None:
    researcher.replace("cpu.py", 'sys.exit("terminated")', "sys.exit(0)")
    researcher.write("experiment.json", '{"sleep": [6000]}')
    process = researcher.start(*RUN)
    processes.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    wait_until(lambda: "running 3" in container_output(researcher))

    assert researcher.caliban(*STOP, "--yes").code == 0
    process.communicate(timeout=60)

    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert " STOPPED " in researcher.caliban("status", "--xgroup", "resubmit_test").out


def container_output(researcher: Researcher) -> str:
    """Return what the container of job 1 has written; its handler of SIGTERM is set before that."""
    done = subprocess.run(
        ["docker", "logs", str(researcher.details(1)["name"])], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_two_signals_within_milliseconds_stop_the_container(
    number: signal.Signals, code: int, researcher: Researcher, open_run: StartedCommand, engine: Engine
) -> None:
    open_run.send_signal(number)
    time.sleep(0.003)
    open_run.send_signal(number)
    open_run.communicate(timeout=60)

    assert open_run.returncode == code
    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert engine.client.containers.get(str(researcher.details(1)["name"])).status == "exited"
