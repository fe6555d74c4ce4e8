"""A real cluster of a kubeconfig, and a user who submits jobs to it.

Without ``$CALIBAN_TEST_CONTEXT`` no test is collected, and pytest's header says so.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.retry import DEFAULT
from tests.e2e.conftest import CommandResult, Researcher, wait_until
from tests.fakes import RecordingReporter
from tests.forkserver import ForkServer
from tests.platforms.kubernetes.helpers import no_engine

CONTEXT = os.environ.get("CALIBAN_TEST_CONTEXT", "")
IMAGE = os.environ.get("CALIBAN_TEST_CLUSTER_IMAGE", "")
NAMESPACE = os.environ.get("CALIBAN_TEST_NAMESPACE", "default")
TIMEOUT = 180

# policies, roles, new kinds of resources and restarts concern the whole cluster: only one of our own gets any
_IS_OWN = "CALIBAN_TEST_CLUSTER_STATE" in os.environ
_OF_WHOLE_CLUSTER = ["test_policies.py", "test_queues.py", "test_disruptions.py", "test_login.py"]

collect_ignore_glob = ["test_*.py"] if not CONTEXT else [] if _IS_OWN else _OF_WHOLE_CLUSTER


@dataclass
class RealCluster:
    """A user, an experiment group, and the cluster."""

    user: Researcher
    group: str
    cluster: Cluster
    namespace: str = NAMESPACE

    def submit(self, script: str, *arguments: str) -> CommandResult:
        """Submit a job whose image runs ``sh -c SCRIPT``."""
        destination = ("--context", CONTEXT, "--namespace", self.namespace)
        options = ("--xgroup", self.group, "--nogpu", "--image_tag", IMAGE, *arguments)
        return self.user.caliban("cluster", "job", "submit", *destination, *options, "job.sh", "--", "-c", script)

    def status(self, *arguments: str) -> str:
        result = self.user.caliban("status", "--xgroup", self.group, *arguments)
        assert result.code == 0, result.err
        return result.out

    def wait_for(self, text: str) -> str:
        """Wait for a listing with this text, and return it."""
        results: list[str] = []

        def is_listed() -> bool:
            results.append(self.status())
            return text in results[-1]

        wait_until(is_listed, TIMEOUT)
        return results[-1]

    def wait_until_all(self, state: str, count: int) -> None:
        """Wait until a number of jobs are in a state."""
        wait_until(lambda: self.status().count(f" {state} ") == count, TIMEOUT)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the group's jobs on the cluster."""
        found = self.cluster.jobs(self.namespace, f"caliban.token,caliban.group={self.group}")
        return [dict(job) for job in found]


@pytest.fixture
def real(tmp_path: Path, fork_server: ForkServer) -> Iterator[RealCluster]:
    """The cluster; all jobs of the test are deleted at its end."""
    if not IMAGE:
        pytest.fail("CALIBAN_TEST_CLUSTER_IMAGE is not set: an image that the cluster can pull, whose entrypoint is sh")
    user = Researcher(tmp_path / "home", tmp_path / "project", fork_server)
    location = Kubeconfig(os.environ, Path.home()).location
    user.environ = {**os.environ, "HOME": str(user.home), "USER": "totoro", "KUBECONFIG": location}
    for name in ("CALIBAN_DB_URL", "CALIBAN_USER", "LOGNAME"):
        user.environ.pop(name, None)
    user.home.mkdir()
    user.write("job.sh", "")
    connection = Kubeconfig(os.environ, Path.home()).connection(CONTEXT)
    cluster = Cluster(
        connection, CONTEXT, PlatformContext(os.environ, Path.home(), RecordingReporter(), no_engine), DEFAULT
    )
    made = RealCluster(user, f"caliban-test-{uuid.uuid4().hex[:12]}", cluster)
    yield made
    for job in made.jobs():
        made.cluster.delete_job(made.namespace, job)
