"""Users of a real cluster with few permissions, each with a token of a service account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.real_cluster.conftest import CONTEXT, RealCluster
from tests.real_cluster.jobs import kubectl, namespace_with

JOBS_ONLY = "create,get,list,delete"


@contextmanager
def with_role(real: RealCluster, verbs: str) -> Iterator[None]:
    """Let the user have the permission for jobs only, in a namespace of the test."""
    with namespace_with(real):
        where = ("-n", real.namespace)
        kubectl("create", "serviceaccount", "user", *where)
        kubectl("create", "role", "user", f"--verb={verbs}", "--resource=jobs.batch", *where)
        account = f"--serviceaccount={real.namespace}:user"
        kubectl("create", "rolebinding", "user", "--role=user", account, *where)
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        config["users"][0]["user"] = {"token": kubectl("create", "token", "user", *where).strip()}
        before = real.user.environ["KUBECONFIG"]
        path = real.user.home / "kubeconfig.json"
        path.write_text(json.dumps(config))
        real.user.environ["KUBECONFIG"] = str(path)
        try:
            yield
        finally:
            real.user.environ["KUBECONFIG"] = before


@pytest.fixture
def jobs_only(real: RealCluster) -> Iterator[RealCluster]:
    """A user without permissions for namespaces, pods, events and logs."""
    with with_role(real, JOBS_ONLY):
        yield real


def test_a_user_of_jobs_alone_submits_reruns_and_stops_them(jobs_only: RealCluster) -> None:
    submitted = jobs_only.submit("exit 3")
    assert submitted.code == 0, submitted.err
    jobs_only.wait_for(" FAILED ")
    details: Any = jobs_only.user.details(1)
    assert "Job has reached the specified backoff limit" in details["reason"]

    again = jobs_only.user.caliban("resubmit", "--xgroup", jobs_only.group, "--yes")
    assert again.code == 0, again.err
    jobs_only.wait_for("job 2        FAILED")

    jobs_only.submit("sleep 600")
    stopped = jobs_only.user.caliban("stop", "--xgroup", jobs_only.group, "--yes")
    assert stopped.code == 0, stopped.err
    assert " STOPPED " in jobs_only.status()


def test_what_a_user_may_not_list_is_reported_and_no_error(jobs_only: RealCluster) -> None:
    jobs_only.submit("exit 3")
    jobs_only.wait_for(" FAILED ")
    listed = jobs_only.user.caliban("cluster", "job", "ls", "--context", CONTEXT, "--namespace", jobs_only.namespace)
    assert (listed.code, " FAILED " in listed.out) == (0, True)
    assert "cannot determine in full why jobs wait or failed" in listed.err
    assert 'cannot list resource "pods"' in listed.err


def test_output_without_the_permission_is_refused_with_its_name(jobs_only: RealCluster) -> None:
    jobs_only.submit("echo one")
    jobs_only.wait_for(" SUCCEEDED ")
    logs = jobs_only.user.caliban("logs", "--xgroup", jobs_only.group)
    assert (logs.code, "[output-refused]" in logs.err) == (1, True)


def test_a_user_who_may_not_create_jobs_is_refused_with_the_cluster_s_words(real: RealCluster) -> None:
    with with_role(real, "get,list"):
        refused = real.submit("true")
        assert (refused.code, "[kubernetes-permission-denied]" in refused.err) == (1, True), refused.err
        assert 'cannot create resource "jobs" in API group "batch"' in refused.err
        assert " FAILED " in real.status()


def test_a_token_that_is_no_longer_valid_is_reported(jobs_only: RealCluster) -> None:
    jobs_only.submit("sleep 600")
    path = Path(jobs_only.user.environ["KUBECONFIG"])
    config = json.loads(path.read_text())
    config["users"][0]["user"] = {"token": "no-longer-valid"}
    path.write_text(json.dumps(config))
    listed = jobs_only.user.caliban("status", "--xgroup", jobs_only.group)
    assert "the cluster rejected the credentials" in listed.out + listed.err
