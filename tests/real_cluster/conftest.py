"""Any real cluster of a kubeconfig, and a user who submits to it.

Without ``$CALIBAN_TEST_CONTEXT`` nothing here is collected, and a line of pytest's header says so.
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
from tests.e2e.conftest import Answer, Researcher, wait_until
from tests.fakes import RecordingReporter
from tests.forkserver import ForkServer
from tests.platforms.kubernetes.helpers import no_engine

CONTEXT = os.environ.get("CALIBAN_TEST_CONTEXT", "")
IMAGE = os.environ.get("CALIBAN_TEST_CLUSTER_IMAGE", "")
NAMESPACE = os.environ.get("CALIBAN_TEST_NAMESPACE", "default")
TIMEOUT = 180

collect_ignore_glob = [] if CONTEXT else ["test_*.py"]


@dataclass
class RealCluster:
    """A user, an experiment group, and the cluster."""

    person: Researcher
    group: str
    cluster: Cluster

    def submit(self, script: str, *words: str) -> Answer:
        """Submit a job whose image runs ``sh -c SCRIPT``."""
        place = ("--context", CONTEXT, "--namespace", NAMESPACE)
        what = ("--xgroup", self.group, "--nogpu", "--image_tag", IMAGE, *words)
        return self.person.caliban("cluster", "job", "submit", *place, *what, "job.sh", "--", "-c", script)

    def status(self, *words: str) -> str:
        answer = self.person.caliban("status", "--xgroup", self.group, *words)
        assert answer.code == 0, answer.err
        return answer.out

    def wait_for(self, text: str) -> str:
        """Return the first listing with this text."""
        answers: list[str] = []

        def is_there() -> bool:
            answers.append(self.status())
            return text in answers[-1]

        wait_until(is_there, TIMEOUT)
        return answers[-1]

    def jobs(self) -> list[dict[str, Any]]:
        """Return the group's jobs, as the cluster reports them."""
        found = self.cluster.jobs(NAMESPACE, f"caliban.token,caliban.group={self.group}")
        return [dict(job) for job in found]


@pytest.fixture
def real(tmp_path: Path, fork_server: ForkServer) -> Iterator[RealCluster]:
    """The cluster, where every job of the test is deleted in the end."""
    if not IMAGE:
        pytest.fail("CALIBAN_TEST_CLUSTER_IMAGE is not set: an image that the cluster can get, whose entrypoint is sh")
    person = Researcher(tmp_path / "home", tmp_path / "project", fork_server)
    location = Kubeconfig(os.environ, Path.home()).location
    person.environ = {**os.environ, "HOME": str(person.home), "USER": "totoro", "KUBECONFIG": location}
    for name in ("CALIBAN_DB_URL", "CALIBAN_USER", "LOGNAME"):
        person.environ.pop(name, None)
    person.home.mkdir()
    person.write("job.sh", "")
    configuration = Kubeconfig(os.environ, Path.home()).configuration(CONTEXT)
    cluster = Cluster(
        configuration, CONTEXT, PlatformContext(os.environ, Path.home(), RecordingReporter(), no_engine), DEFAULT
    )
    made = RealCluster(person, f"caliban-test-{uuid.uuid4().hex[:12]}", cluster)
    yield made
    for job in made.jobs():
        made.cluster.delete_job(NAMESPACE, job)
