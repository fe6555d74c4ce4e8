"""``caliban stop`` with containers on this machine; ``test_cloud.py`` and ``test_cluster.py`` stop remote jobs."""

from __future__ import annotations

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import Researcher

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
