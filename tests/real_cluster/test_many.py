"""Many jobs on a real cluster, and commands that are killed at any moment while they submit some.

A quota refuses the pods, so that jobs wait: the cluster has what it has, whatever the machine can run.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter

import pytest

from tests.e2e.conftest import CommandResult, wait_until
from tests.real_cluster.conftest import CONTEXT, IMAGE, TIMEOUT, RealCluster
from tests.real_cluster.jobs import kubectl, namespace_with

KILLS = 5
FEW = 12


def command(real: RealCluster, count: int, script: str = "true") -> tuple[str, ...]:
    """Return the command that submits a job for each of some experiments."""
    real.user.write("experiment.json", json.dumps({"n": list(range(count))}))
    destination = ("--context", CONTEXT, "--namespace", real.namespace, "--xgroup", real.group)
    options = ("--nogpu", "--image_tag", IMAGE, "--experiment_config", "experiment.json")
    return ("cluster", "job", "submit", *destination, *options, "job.sh", "--", "-c", script)


def per_experiment(real: RealCluster) -> Counter[str]:
    """Return how many jobs the cluster has of each experiment."""
    return Counter(str(job["metadata"]["labels"]["caliban.experiment"]) for job in real.jobs())


def kill_at_random_moments(real: RealCluster, arguments: tuple[str, ...], longest: float) -> list[float]:
    """Start a command several times, and kill it each time; return after how many seconds."""
    delays = [random.uniform(0, longest) for _ in range(KILLS)]
    for delay in delays:
        process = real.user.start(*arguments)
        time.sleep(delay)
        process.kill()
        process.wait(60)
        process.communicate()
        resumed = re.search(r"never submitted|\[unknown-xgroup\]", _dry_run(real))
        arguments = arguments if resumed else ("resubmit", "--xgroup", real.group, "--yes")
    return delays


def _dry_run(real: RealCluster) -> str:
    found = real.user.caliban("resubmit", "--xgroup", real.group, "--dry_run")
    return found.out + found.err


def complete(real: RealCluster, submit: tuple[str, ...]) -> CommandResult:
    """Do what a user does after a killed command."""
    for _ in range(5):
        done = real.user.caliban("resubmit", "--xgroup", real.group, "--yes")
        if re.search(r"never submitted|\[unknown-xgroup\]", done.out + done.err):
            done = real.user.caliban(*submit)
        assert done.code == 0, done
        if "nothing to resubmit" in done.out:
            return done
    raise AssertionError(f"there was always more to do: {done}")


def test_two_hundred_jobs_are_submitted_listed_and_stopped(real: RealCluster) -> None:
    with namespace_with(real, "--hard=pods=0"):
        submitted = real.user.caliban(*command(real, 200))
        assert submitted.code == 0, submitted.err
        assert set(per_experiment(real).values()) == {1}
        assert len(real.jobs()) == 200
        listing = ("cluster", "job", "ls", "--context", CONTEXT, "--namespace", real.namespace)
        wait_until(lambda: real.user.caliban(*listing).out.count("exceeded quota: lab") >= 20, TIMEOUT)
        listed = real.status()
        assert listed.count(" SUBMITTED ") == 200
        assert listed.count("FailedCreate: Error creating: ") >= 20

        stopped = real.user.caliban("stop", "--xgroup", real.group, "--yes")
        assert stopped.code == 0, stopped.err
        assert real.status().count(" STOPPED ") == 200
        assert real.jobs() == []


def test_a_submission_that_is_killed_at_any_moment_is_completed_without_a_second_job(real: RealCluster) -> None:
    with namespace_with(real, "--hard=pods=0"):
        submit = command(real, FEW)
        delays = kill_at_random_moments(real, submit, 1.5)
        complete(real, submit)
        assert sorted(per_experiment(real).values()) == [1] * FEW, delays
        recorded = {
            str(uid) for (uid,) in real.user.rows("SELECT json_extract(details, '$.job.metadata.uid') FROM jobs")
        }
        assert recorded == {job["metadata"]["uid"] for job in real.jobs()}, delays


def test_a_rerun_that_is_killed_at_any_moment_is_completed_without_a_second_job(real: RealCluster) -> None:
    with namespace_with(real):
        submit = command(real, FEW, "exit 3")
        assert real.user.caliban(*submit).code == 0
        real.wait_until_all("FAILED", FEW)
        kubectl("create", "quota", "lab", "-n", real.namespace, "--hard=pods=0")
        delays = kill_at_random_moments(real, ("resubmit", "--xgroup", real.group, "--yes"), 1.5)
        complete(real, submit)
        assert sorted(per_experiment(real).values()) == [2] * FEW, delays


@pytest.mark.parametrize("number", range(2))
def test_a_stop_that_is_killed_at_any_moment_is_completed(real: RealCluster, number: int) -> None:
    with namespace_with(real, "--hard=pods=0"):
        assert real.user.caliban(*command(real, FEW)).code == 0
        stop = ("stop", "--xgroup", real.group, "--yes")
        process = real.user.start(*stop)
        time.sleep(random.uniform(0, 0.8))
        process.kill()
        process.wait(60)
        process.communicate()
        again = real.user.caliban(*stop)
        assert again.code == 0, again.err
        assert (real.jobs(), real.status().count(" STOPPED ") + real.status().count(" UNKNOWN ")) == ([], FEW)
