"""``caliban stop`` ends containers on this machine. (``test_cloud.py`` has the jobs of AI Platform.)"""

from __future__ import annotations

import signal
import subprocess

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import RUN, Researcher, wait_until
from tests.e2e.test_failures import running_jobs

STOP = ("stop", "--xgroup", "resubmit_test")


@pytest.fixture
def abandoned(researcher: Researcher, started: list[subprocess.Popen[str]]) -> Researcher:
    """A researcher whose job runs on after its caliban was killed."""
    researcher.write("experiment.json", '{"sleep": [6000]}')
    process = researcher.start(*RUN)
    started.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return researcher


def test_a_running_container_is_stopped_and_recorded(abandoned: Researcher, engine: Engine) -> None:
    answer = abandoned.caliban(*STOP, stdin="y\n")

    assert answer.code == 0, answer.err
    assert answer.lines[:2] == ["the following jobs would be stopped:", "cpu.py --foo 3 --sleep 6000"]
    assert "\n do you wish to stop these 1 jobs? [yN]: y\n" in answer.err
    assert answer.err.endswith("1 job: 1 stopped\n")
    assert abandoned.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert engine.client.containers.get(str(abandoned.details(1)["name"])).status == "exited"


@pytest.mark.parametrize(("words", "code"), [(("--dry_run",), 0), ((), 1)])
def test_a_dry_run_or_the_end_of_input_stops_nothing(abandoned: Researcher, words: tuple[str, ...], code: int) -> None:
    assert abandoned.caliban(*STOP, *words).code == code

    assert abandoned.rows("SELECT status FROM jobs") == [("RUNNING",)]


def test_without_xgroup_the_jobs_of_all_groups_are_stopped(abandoned: Researcher) -> None:
    assert abandoned.caliban("stop", "--yes").code == 0

    assert abandoned.rows("SELECT status FROM jobs") == [("STOPPED",)]


def test_stop_does_nothing_when_all_jobs_have_ended(group_with_a_failure: Researcher) -> None:
    answer = group_with_a_failure.caliban(*STOP, "--yes")

    assert (answer.code, answer.out) == (0, "nothing to stop: no job runs or waits\n")


def test_a_job_that_cannot_be_stopped_is_reported(abandoned: Researcher) -> None:
    answer = abandoned.caliban(*STOP, "--yes", DOCKER_HOST="unix:///nowhere.sock")

    assert answer.code == 1
    assert "[docker-unreachable]" in answer.err
    assert abandoned.rows("SELECT status FROM jobs") == [("RUNNING",)]
