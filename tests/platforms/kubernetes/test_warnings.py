"""Warnings of a cluster at the creation of jobs: shown once, and kept as the reason of a job that waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.warning_headers import warnings_in
from caliban.records import JobStatus
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import NAME, PEER_SPEC, record_of, submission
from tests.platforms.kubernetes.test_submit import refusal
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.admission import ValidatingPolicy

TEAM = "Validation failed for ValidatingAdmissionPolicy 'team' with binding 'team': every \"job\" needs Größe"


def warn(cluster: KubeApi, message: str = 'every "job" needs Größe', name: str = "team") -> None:
    cluster.validating.append(ValidatingPolicy(name, lambda job: message, warns=True))


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ('299 - "one"', ("one",)),
        ('299 - "one", 299 - "two"', ("one", "two")),
        ('299 - "one",299 kube "two" "Wed, 21 Oct 2015 07:28:00 GMT"', ("one", "two")),
        ('299 - "one, 299 - \\"two\\"" , 299 - "one, 299 - \\"two\\""', ('one, 299 - "two"',)),
        ('299 - "a \\\\ b"', ("a \\ b",)),
        ('110 proxy "Response is Stale", 299 - "one"', ("one",)),
        ('nonsense, 299 - "one"', ("one",)),
        ('299 - "not closed', ()),
        ('299 - ""', ()),
        ("299 - Gr\u00f6\u00dfe", ()),
        ('299 - "Größe"'.encode().decode("iso-8859-1"), ("Größe",)),
        ('299 - "Gr\u00f6\u00dfe"', ("Größe",)),
        ("", ()),
    ],
)
def test_warnings_are_read_as_kubectl_reads_them(value: str, texts: tuple[str, ...]) -> None:
    assert warnings_in({"warning": value}) == texts


def test_a_warning_is_shown_when_a_job_is_submitted(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    warn(cluster)
    warn(cluster, "no owner", "owner")
    platform.submit(PEER_SPEC, submission(), may_send)
    owner = TEAM.replace("team", "owner").partition(": ")[0]
    prefix = "the cluster of the context lab warns: "
    assert reporter.warnings == [f"{prefix}{TEAM}", f"{prefix}{owner}: no owner"]


def test_one_warning_about_many_jobs_is_shown_once(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    def name_it(job: Mapping[str, Any]) -> str:
        return f"{job['metadata']['name']} has no team"

    cluster.validating.append(ValidatingPolicy("team", name_it, warns=True))
    for number in range(3):
        platform.submit(PEER_SPEC, submission(f"{NAME}-{number}", f"{number}" * 16), may_send)
    (line,) = reporter.warnings
    assert line.endswith("JOB has no team")


def test_the_warnings_of_a_refusal_are_shown(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    headers = {"Warning": '299 - "use another queue"'}
    body = (
        b'{"kind": "Status", "apiVersion": "v1", "message": "x is forbidden: no", "reason": "Forbidden", "code": 403}'
    )
    cluster.faults.add(Fault("jobs.create", "replace", status=403, body=body, headers=headers))
    assert refusal(platform).id == "kubernetes-admission-denied"
    assert reporter.warnings == ["the cluster of the context lab warns: use another queue"]


def test_a_job_that_waits_without_another_reason_has_the_warning(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    warn(cluster)
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    waiting = job.updated(platform.statuses([job])[job.id])
    assert (waiting.status, waiting.reason) == (JobStatus.SUBMITTED, f"warning of the cluster: {TEAM}")
    cluster.jobs.cannot_create_pods(NAME, "no quota")
    refused = waiting.updated(platform.statuses([waiting])[job.id])
    assert refused.reason == "FailedCreate: Error creating: no quota"
    cluster.jobs.start(NAME)
    running = refused.updated(platform.statuses([refused])[job.id])
    assert (running.status, running.reason) == (JobStatus.RUNNING, None)
