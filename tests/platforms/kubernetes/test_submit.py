"""Submit to a cluster: exactly once, whatever goes wrong, and each refusal with the cluster's message."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import RefusedError
from caliban.platforms.kubernetes.errors import KubernetesError
from caliban.platforms.kubernetes.job_spec import manifest
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobExit, JobStatus
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    IMAGE,
    NAME,
    OUR_LABELS,
    PEER_SPEC,
    QUICK,
    TOKEN,
    assert_valid,
    platform_context,
    record_of,
    submission,
)
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi, Quota, Webhook
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.status import JOBS

CREATE, GET = "jobs.create", "jobs.get"
NEXT_NAME = f"{NAME}-abcdef"
LAB = replace(DESTINATION, namespace="lab")


def calls(cluster: KubeApi) -> tuple[int, int]:
    """Return how often a job was submitted, and looked up."""
    return cluster.counts[CREATE], cluster.counts[GET]


def create_foreign_job(platform: KubeconfigPlatform, name: str) -> None:
    """Let another user have a job of that name."""
    platform.submit(PEER_SPEC, submission(name, "f" * 16), may_send)


def refusal(platform: KubeconfigPlatform, **more: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, submission(**more), may_send)
    return caught.value


def test_the_recorded_spec_is_sent_completely_with_name_and_labels(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission(), may_send)
    (sent,) = cluster.bodies(CREATE)
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["metadata"]["labels"] = OUR_LABELS
    assert sent == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "labels": OUR_LABELS},
        "spec": expected,
    }
    assert_valid(sent)


def test_the_record_has_the_destination_of_the_job(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission(), may_send)
    metadata = cluster.jobs.get(NAME)["metadata"]
    assert (new.container, new.status) == (IMAGE, JobStatus.SUBMITTED)
    assert new.details.destination == DESTINATION
    assert new.details.raw == {
        "context": "lab",
        "container": "job-stop-test",
        "job": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": NAME,
                "namespace": "default",
                "uid": metadata["uid"],
                "creationTimestamp": metadata["creationTimestamp"],
                "labels": OUR_LABELS,
            },
        },
    }


def test_a_submission_is_one_request_that_refuses_unknown_fields(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission(), may_send)
    (received,) = cluster.requests
    assert (received.method, received.query) == (CREATE, {"fieldValidation": "Strict"})
    assert received.headers["User-Agent"].startswith("caliban/")


def test_a_job_is_created_in_the_journaled_namespace(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.submit(PEER_SPEC, submission(destination=LAB), may_send)
    assert cluster.jobs.get(NAME, "lab")["metadata"]["labels"] == OUR_LABELS


def test_if_another_job_has_the_name_the_next_one_is_used(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    create_foreign_job(platform, NAME)
    new = platform.submit(PEER_SPEC, submission(), may_send)
    assert cluster.jobs.get(NEXT_NAME)["metadata"]["labels"]["caliban.token"] == TOKEN
    assert new.details.display_name == NEXT_NAME
    assert platform.find(submission()) == new


def test_a_job_of_the_second_name_is_found_after_the_first_became_free(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    create_foreign_job(platform, NAME)
    new = platform.submit(PEER_SPEC, submission(), may_send)
    cluster.jobs.remove(NAME)
    assert platform.find(submission()) == new


def test_if_every_name_is_taken_the_job_is_refused(platform: KubeconfigPlatform) -> None:
    for name in (NAME, NEXT_NAME):
        create_foreign_job(platform, name)
    error = refusal(platform)
    assert (error.id, error.message) == (
        "job-name-taken",
        f"cannot submit the job {NAME}: the cluster of the context lab already has jobs of its names",
    )
    assert platform.find(submission()) is None


def test_after_a_lost_response_the_job_is_looked_up_before_it_is_sent_again(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "drop"))
    new = platform.submit(PEER_SPEC, submission(), may_send)
    assert calls(cluster) == (1, 1)
    assert new == platform.find(submission())


def test_after_the_page_of_a_proxy_the_job_is_looked_up(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.faults.add(Fault(CREATE, "garbage"))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert calls(cluster) == (1, 1)


def test_after_a_timeout_the_job_is_looked_up(cluster: KubeApi, kubeconfig: Path) -> None:
    cluster.faults.add(Fault(CREATE, "delay", seconds=0.5))
    platform = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), replace(QUICK, read_timeout=0.3))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert [job["metadata"]["name"] for job in cluster.state.items(JOBS)] == [NAME]


def test_after_a_broken_connection_without_a_job_the_job_is_sent_again(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "refuse"))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert calls(cluster) == (2, 1)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_after_a_server_error_the_job_is_looked_up_and_sent_again(
    cluster: KubeApi, platform: KubeconfigPlatform, status: int
) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=2, status=status))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert calls(cluster) == (3, 2)


def test_a_lost_response_under_a_taken_name_leads_to_the_next_name(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    create_foreign_job(platform, NAME)
    cluster.faults.add(Fault(CREATE, "refuse"))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert cluster.jobs.get(NEXT_NAME)["metadata"]["labels"]["caliban.token"] == TOKEN


def test_retry_after_of_a_busy_cluster_is_respected_and_reported_once(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=3, status=429, retry_after="7"))
    platform.submit(PEER_SPEC, submission(), may_send)
    assert calls(cluster) == (4, 0)
    assert reporter.lines == [
        "the cluster of the context lab is busy; jobs are submitted as soon as it accepts requests again ..."
    ]


def test_a_cluster_that_asks_to_wait_too_long_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=1000, status=429, retry_after="3600"))
    error = refusal(platform)
    assert (error.id, calls(cluster)) == ("kubernetes-busy", (1, 1))
    assert "(tried once; the service asks to wait 3600 s)" in str(error.cause)


def test_a_missing_namespace_is_a_refusal_with_the_cluster_s_message(platform: KubeconfigPlatform) -> None:
    error = refusal(platform, destination=replace(DESTINATION, namespace="gone"))
    assert (error.id, error.message, error.cause) == (
        "namespace-not-found",
        f"cannot submit the job {NAME} to the cluster of the context lab: the namespace does not exist",
        'namespaces "gone" not found',
    )
    assert error.details == {
        "context": "lab",
        "job": {"metadata": {"name": NAME, "namespace": "gone"}},
        "reason": f'{error.message}: namespaces "gone" not found',
    }


def test_a_terminating_namespace_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.state.terminate_namespace("lab")
    error = refusal(platform, destination=LAB)
    assert error.id == "namespace-terminating"
    assert str(error.cause).endswith("unable to create new content in namespace lab because it is being terminated")


def test_an_exhausted_quota_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.quota = Quota("compute", 1)
    create_foreign_job(platform, "other")
    error = refusal(platform)
    assert error.id == "kubernetes-quota-exhausted"
    assert str(error.cause).endswith(
        "exceeded quota: compute, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: count/jobs.batch=1"
    )


def test_a_webhook_that_denies_is_a_refusal_with_its_message(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.webhooks.append(Webhook("costs.example.com", lambda job: "no cost centre"))
    error = refusal(platform)
    assert (error.id, error.cause) == (
        "kubernetes-admission-denied",
        'admission webhook "costs.example.com" denied the request: no cost centre',
    )


def test_a_webhook_that_denies_without_a_message_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.webhooks.append(Webhook("costs.example.com", lambda job: "", code=403))
    assert refusal(platform).id == "kubernetes-admission-denied"


def test_a_denied_permission_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add(CREATE)
    error = refusal(platform)
    assert error.id == "kubernetes-permission-denied"
    assert 'cannot create resource "jobs" in API group "batch" in the namespace "default"' in str(error.cause)
    assert calls(cluster) == (1, 0)


def test_rejected_credentials_are_a_refusal(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": "planted-token"})
    error = refusal(KubeconfigPlatform(platform_context(kubeconfig=path), QUICK))
    assert (error.id, error.cause, calls(cluster)) == ("kubernetes-not-authenticated", "Unauthorized", (1, 0))


def test_a_client_certificate_is_used(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", credential="certificate")
    KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).submit(PEER_SPEC, submission(), may_send)
    assert "Authorization" not in cluster.requests[0].headers


def test_an_invalid_job_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["spec"]["restartPolicy"] = "Always"
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, submission(), may_send)
    assert caught.value.id == "kubernetes-invalid"
    assert 'restartPolicy: Required value: valid values: "OnFailure", "Never"' in str(caught.value.cause)
    assert calls(cluster) == (1, 0)


@pytest.mark.parametrize("added", [{"cpuType": "fast"}, {"backoffLimit": "four"}])
def test_an_invalid_recorded_spec_is_a_refusal(
    cluster: KubeApi, platform: KubeconfigPlatform, added: dict[str, object]
) -> None:
    with pytest.raises(RefusedError) as caught:
        platform.submit({**PEER_SPEC, **added}, submission(), may_send)
    assert caught.value.id in ("kubernetes-invalid", "kubernetes-bad-request")
    assert next(iter(added)) in str(caught.value.cause)


def test_a_spec_without_an_image_is_an_error_before_anything_is_sent(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.submit({"template": {"spec": {"containers": [{}]}}}, submission(), may_send)
    assert (caught.value.id, cluster.requests) == ("malformed-job-spec", [])


def test_a_refused_connection_is_a_refusal_since_nothing_was_sent(cluster: KubeApi, kubeconfig: Path) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(str(cluster.port), "1"))
    error = refusal(KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK))
    assert (error.id, error.message) == (
        "kubernetes-unreachable",
        f"cannot submit the job {NAME} to the cluster of the context lab: no response from the cluster",
    )


def test_an_untrusted_certificate_is_a_refusal_since_nothing_was_sent(cluster: KubeApi, kubeconfig: Path) -> None:
    with KubeApi() as impostor:
        content = kubeconfig.read_text().replace(str(cluster.port), str(impostor.port))
        kubeconfig.write_text(content)
        error = refusal(KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK))
        assert impostor.requests == []
    assert (error.id, "certificate verify failed" in str(error.cause)) == ("kubernetes-unreachable", True)
    assert error.message.endswith("the cluster's certificate cannot be verified")


def test_a_removed_context_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    error = refusal(platform, destination=replace(DESTINATION, context="gone"))
    assert (error.id, cluster.requests) == ("unknown-context", [])
    assert error.details["context"] == "gone"


def test_after_repeated_server_errors_the_outcome_is_unknown(cluster: KubeApi, kubeconfig: Path) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=1000, status=503))
    with pytest.raises(KubernetesError) as caught:
        KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK).submit(PEER_SPEC, submission(), may_send)
    assert caught.value.id == "kubernetes-unavailable"


def test_a_refusal_after_a_lost_request_leaves_the_outcome_unknown(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "refuse"))
    cluster.faults.add(Fault(CREATE, "status", status=403, message="not any more"))
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission(), may_send)
    assert not isinstance(caught.value, RefusedError)


def test_a_lost_response_without_a_lookup_leaves_the_outcome_unknown(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "drop"))
    cluster.forbidden.add(GET)
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission(), may_send)
    assert not isinstance(caught.value, RefusedError)
    cluster.forbidden.clear()
    found = platform.find(submission())
    assert found is not None
    assert found.status is JobStatus.SUBMITTED


def test_a_job_is_found_in_its_current_state(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission(), may_send)
    cluster.jobs.start(NAME)
    found = platform.find(submission())
    assert found is not None
    assert (found.status, found.details.id) == (JobStatus.RUNNING, new.details.id)


def test_a_job_that_failed_before_it_was_found_is_recorded_with_its_exit(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission(), may_send)
    while not finished(cluster.jobs.get(NAME)):
        cluster.jobs.fail(NAME, 3)
    found = platform.find(submission())
    assert found is not None
    assert (found.status, found.details.exit) == (
        JobStatus.FAILED,
        JobExit(3, FailureCause.CODE_ERROR, "exit code 3"),
    )


def test_a_job_that_was_not_created_is_not_found(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    assert platform.find(submission()) is None
    assert calls(cluster) == (0, 2)


def test_a_failed_lookup_is_an_error(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add(GET)
    with pytest.raises(KubernetesError):
        platform.find(submission())


@pytest.mark.slow
def test_many_threads_submit_jobs_with_one_client(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    tokens = [f"{number:016x}"[::-1] for number in range(24)]

    def submit(number: int, token: str) -> None:
        platform.submit(PEER_SPEC, submission(f"job-{number}", token), may_send)

    threads = [threading.Thread(target=submit, args=each) for each in enumerate(tokens)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = {body["metadata"]["name"]: body["metadata"]["labels"]["caliban.token"] for body in cluster.bodies(CREATE)}
    assert sent == {f"job-{number}": token for number, token in enumerate(tokens)}
    assert calls(cluster) == (24, 0)


def test_the_name_of_a_job_has_the_container_s_name_and_the_token(platform: KubeconfigPlatform) -> None:
    assert platform.job_name(PEER_SPEC, TOKEN) == NAME


def test_connect_checks_the_namespace(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.connect(DESTINATION)
    assert [received.path for received in cluster.requests] == ["/api/v1/namespaces/default"]


def test_connect_to_a_missing_namespace_is_an_error(platform: KubeconfigPlatform) -> None:
    with pytest.raises(KubernetesError) as caught:
        platform.connect(replace(DESTINATION, namespace="gone"))
    assert caught.value.id == "namespace-not-found"


def test_a_user_who_may_not_read_namespaces_may_still_submit(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add("namespaces.get")
    platform.connect(DESTINATION)


def test_connect_with_rejected_credentials_is_an_error(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": "planted-token"})
    with pytest.raises(KubernetesError) as caught:
        KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).connect(DESTINATION)
    assert caught.value.id == "kubernetes-not-authenticated"


def test_the_destination_of_a_rerun_is_the_recorded_context_and_namespace(
    platform: KubeconfigPlatform, kubeconfig: Path, cluster: KubeApi
) -> None:
    new = platform.submit(PEER_SPEC, submission(destination=LAB), may_send)
    cluster.write_kubeconfig(kubeconfig, "another")
    found = platform.destination(record_of(new))
    assert (found.context, found.namespace) == ("lab", "lab")


def test_a_submission_sends_the_manifest_of_its_job_spec(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.submit(PEER_SPEC, submission(), may_send)
    assert cluster.bodies(CREATE) == [manifest(PEER_SPEC, NAME, OUR_LABELS)]
