"""Submitting to a cluster: exactly once, whatever goes wrong, and each refusal in the cluster's words."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.platforms.kubernetes.errors import KubernetesError
from caliban.platforms.kubernetes.job_spec import manifest
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobStatus
from tests.fakes import HeardReporter
from tests.platforms.kubernetes.helpers import (
    IMAGE,
    NAME,
    OUR_LABELS,
    PEER_SPEC,
    QUICK,
    SHORT,
    DESTINATION,
    TOKEN,
    assert_valid,
    platform_context,
    submission,
    record_of,
)
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi, Quota, Webhook
from tests.standins.kubernetes.status import JOBS

CREATE, GET = "jobs.create", "jobs.get"
NEXT_NAME = f"{NAME}-abcdef"
LAB = {"context": "lab", "namespace": "lab"}


def calls(cluster: KubeApi) -> tuple[int, int]:
    """How often a job was submitted, and looked up."""
    return cluster.counts[CREATE], cluster.counts[GET]


def somebody_elses(platform: KubeconfigPlatform, name: str) -> None:
    """Let another person have a job of that name."""
    platform.submit(PEER_SPEC, submission(name, "f" * 16))


def refusal(platform: KubeconfigPlatform, **more: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        platform.submit(PEER_SPEC, submission(**more))
    return caught.value


def test_the_recorded_spec_is_sent_whole_with_its_name_and_labels(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission())
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


def test_what_is_recorded_tells_where_the_job_is(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission())
    metadata = cluster.jobs.get(NAME)["metadata"]
    assert (new.container, new.status) == (IMAGE, JobStatus.SUBMITTED)
    assert new.details == {
        "context": "lab",
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


def test_a_submission_is_one_request_which_wants_unknown_fields_refused(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission())
    (received,) = cluster.requests
    assert (received.method, received.query) == (CREATE, {"fieldValidation": "Strict"})
    assert received.headers["User-Agent"].startswith("caliban/")


def test_it_goes_to_the_namespace_that_was_written_down(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.submit(PEER_SPEC, submission(target=LAB))
    assert cluster.jobs.get(NAME, "lab")["metadata"]["labels"] == OUR_LABELS


def test_submitting_twice_with_one_token_adopts_the_first_job(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    first, second = platform.submit(PEER_SPEC, submission()), platform.submit(PEER_SPEC, submission())
    assert first == second
    assert calls(cluster) == (2, 1)


def test_another_s_name_is_left_alone_and_the_next_one_taken(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    somebody_elses(platform, NAME)
    new = platform.submit(PEER_SPEC, submission())
    assert cluster.jobs.get(NEXT_NAME)["metadata"]["labels"]["caliban.token"] == TOKEN
    assert new.details["job"]["metadata"]["name"] == NEXT_NAME  # type: ignore[index]
    assert platform.find(submission()) == new


def test_a_job_of_the_second_name_is_found_though_the_first_is_free_again(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    somebody_elses(platform, NAME)
    new = platform.submit(PEER_SPEC, submission())
    cluster.jobs.remove(NAME)
    assert platform.find(submission()) == new


def test_when_every_name_is_taken_the_error_says_so(platform: KubeconfigPlatform) -> None:
    for name in (NAME, NEXT_NAME):
        somebody_elses(platform, name)
    error = refusal(platform)
    assert (error.id, error.message) == (
        "job-name-taken",
        f"cannot submit the job {NAME}: other jobs of the cluster of the context lab have its names",
    )
    assert platform.find(submission()) is None


def test_after_a_lost_answer_the_job_is_looked_up_before_it_is_asked_for_again(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "drop"))
    new = platform.submit(PEER_SPEC, submission())
    assert calls(cluster) == (1, 1)
    assert new == platform.find(submission())


def test_after_a_page_of_a_proxy_the_job_is_looked_up(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.faults.add(Fault(CREATE, "garbage"))
    platform.submit(PEER_SPEC, submission())
    assert calls(cluster) == (1, 1)


def test_after_a_timeout_the_job_is_looked_up(cluster: KubeApi, kubeconfig: Path) -> None:
    cluster.faults.add(Fault(CREATE, "delay", seconds=1))
    hurried = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), replace(QUICK, read_timeout=0.3))
    hurried.submit(PEER_SPEC, submission())
    assert [job["metadata"]["name"] for job in cluster.state.items(JOBS)] == [NAME]


def test_a_broken_connection_without_a_job_is_followed_by_another_request(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "refuse"))
    platform.submit(PEER_SPEC, submission())
    assert calls(cluster) == (2, 1)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_cluster_is_asked_again_after_looking(
    cluster: KubeApi, platform: KubeconfigPlatform, status: int
) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=2, status=status))
    platform.submit(PEER_SPEC, submission())
    assert calls(cluster) == (3, 2)


def test_a_lost_answer_under_a_taken_name_leads_to_the_next_name(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    somebody_elses(platform, NAME)
    cluster.faults.add(Fault(CREATE, "refuse"))
    platform.submit(PEER_SPEC, submission())
    assert cluster.jobs.get(NEXT_NAME)["metadata"]["labels"]["caliban.token"] == TOKEN


def test_a_busy_cluster_is_waited_for_as_it_asks_and_that_is_told_once(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: HeardReporter
) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=3, status=429, retry_after="0"))
    platform.submit(PEER_SPEC, submission())
    assert calls(cluster) == (4, 0)
    assert reporter.said == [
        "the cluster of the context lab takes no more requests just now; the jobs wait for their turn ..."
    ]


def test_a_cluster_that_asks_to_wait_for_too_long_refuses(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=1000, status=429, retry_after="3600"))
    error = refusal(platform)
    assert (error.id, calls(cluster)) == ("kubernetes-busy", (1, 0))
    assert "(tried once; the service asks to wait 3600 s)" in str(error.cause)


def test_waiting_for_a_busy_cluster_ends_when_the_person_wants_to_stop(cluster: KubeApi, kubeconfig: Path) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=1000, status=429, retry_after="5"))
    around = platform_context(kubeconfig=kubeconfig)
    around.stopping.set()
    with pytest.raises(NotSentError):
        KubeconfigPlatform(around, QUICK).submit(PEER_SPEC, submission())


def test_a_namespace_that_is_not_there_is_a_refusal_in_the_cluster_s_words(platform: KubeconfigPlatform) -> None:
    error = refusal(platform, target={**DESTINATION, "namespace": "gone"})
    assert (error.id, error.message, error.cause) == (
        "namespace-not-found",
        f"cannot submit the job {NAME} to the cluster of the context lab: there is no such namespace",
        'namespaces "gone" not found',
    )
    assert error.details == {
        "context": "lab",
        "job": {"metadata": {"name": NAME, "namespace": "gone"}},
        "reason": f'{error.message}: namespaces "gone" not found',
    }


def test_a_namespace_that_is_going_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.state.terminate_namespace("lab")
    error = refusal(platform, target=LAB)
    assert error.id == "namespace-terminating"
    assert str(error.cause).endswith("unable to create new content in namespace lab because it is being terminated")


def test_a_quota_that_is_used_up_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.quota = Quota("compute", 1)
    somebody_elses(platform, "other")
    error = refusal(platform)
    assert error.id == "kubernetes-quota-exhausted"
    assert str(error.cause).endswith(
        "exceeded quota: compute, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: count/jobs.batch=1"
    )


def test_a_webhook_that_denies_is_a_refusal_in_its_own_words(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.webhooks.append(Webhook("costs.example.com", lambda job: "no cost centre"))
    error = refusal(platform)
    assert (error.id, error.cause) == (
        "kubernetes-admission-denied",
        'admission webhook "costs.example.com" denied the request: no cost centre',
    )


def test_a_webhook_that_denies_without_a_word_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.webhooks.append(Webhook("costs.example.com", lambda job: "", code=403))
    assert refusal(platform).id == "kubernetes-admission-denied"


def test_a_denied_permission_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add(CREATE)
    error = refusal(platform)
    assert error.id == "kubernetes-permission-denied"
    assert 'cannot create resource "jobs" in API group "batch" in the namespace "default"' in str(error.cause)
    assert calls(cluster) == (1, 0)


def test_credentials_that_are_not_accepted_are_a_refusal(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": "planted-token"})
    error = refusal(KubeconfigPlatform(platform_context(kubeconfig=path), QUICK))
    assert (error.id, error.cause, calls(cluster)) == ("kubernetes-not-authenticated", "Unauthorized", (1, 0))


def test_a_client_certificate_is_accepted_too(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", credential="certificate")
    KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).submit(PEER_SPEC, submission())
    assert "Authorization" not in cluster.requests[0].headers


def test_a_job_that_the_cluster_does_not_accept_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["spec"]["restartPolicy"] = "Always"
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, submission())
    assert caught.value.id == "kubernetes-invalid"
    assert 'restartPolicy: Required value: valid values: "OnFailure", "Never"' in str(caught.value.cause)
    assert calls(cluster) == (1, 0)


@pytest.mark.parametrize("added", [{"cpuType": "fast"}, {"backoffLimit": "four"}])
def test_a_recorded_spec_that_is_no_job_spec_is_a_refusal(
    cluster: KubeApi, platform: KubeconfigPlatform, added: dict[str, object]
) -> None:
    with pytest.raises(RefusedError) as caught:
        platform.submit({**PEER_SPEC, **added}, submission())
    assert caught.value.id in ("kubernetes-invalid", "kubernetes-bad-request")
    assert next(iter(added)) in str(caught.value.cause)


def test_a_spec_without_an_image_is_told_before_anything_is_sent(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.submit({"template": {"spec": {"containers": [{}]}}}, submission())
    assert (caught.value.id, cluster.requests) == ("malformed-job-spec", [])


def test_a_cluster_that_nobody_answers_for_is_a_refusal_since_nothing_was_sent(
    cluster: KubeApi, kubeconfig: Path
) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(str(cluster.port), "1"))
    error = refusal(KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), SHORT))
    assert (error.id, error.message) == (
        "kubernetes-unreachable",
        f"cannot submit the job {NAME} to the cluster of the context lab: the cluster does not answer",
    )


def test_a_certificate_of_another_authority_is_a_refusal_since_nothing_was_sent(
    cluster: KubeApi, kubeconfig: Path
) -> None:
    with KubeApi() as impostor:
        content = kubeconfig.read_text().replace(str(cluster.port), str(impostor.port))
        kubeconfig.write_text(content)
        error = refusal(KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK))
        assert impostor.requests == []
    assert (error.id, "certificate verify failed" in str(error.cause)) == ("kubernetes-unreachable", True)
    assert error.message.endswith("the cluster's certificate is not accepted")


def test_a_context_that_is_gone_is_a_refusal(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    error = refusal(platform, target={**DESTINATION, "context": "gone"})
    assert (error.id, cluster.requests) == ("unknown-context", [])
    assert error.details["context"] == "gone"


def test_a_cluster_that_keeps_failing_leaves_the_submission_in_doubt(cluster: KubeApi, kubeconfig: Path) -> None:
    cluster.faults.add(Fault(CREATE, "status", times=1000, status=503))
    with pytest.raises(KubernetesError) as caught:
        KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), SHORT).submit(PEER_SPEC, submission())
    assert caught.value.id == "kubernetes-unavailable"


def test_a_refusal_after_a_lost_request_leaves_the_submission_in_doubt(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "refuse"))
    cluster.faults.add(Fault(CREATE, "status", status=403, message="not any more"))
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert not isinstance(caught.value, RefusedError)


def test_a_lost_answer_that_cannot_be_looked_up_leaves_the_submission_in_doubt(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.faults.add(Fault(CREATE, "drop"))
    cluster.forbidden.add(GET)
    with pytest.raises(CalibanError) as caught:
        platform.submit(PEER_SPEC, submission())
    assert not isinstance(caught.value, RefusedError)
    cluster.forbidden.clear()
    found = platform.find(submission())
    assert found is not None
    assert found.status is JobStatus.SUBMITTED


def test_a_job_is_found_with_its_present_state(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    new = platform.submit(PEER_SPEC, submission())
    cluster.jobs.start(NAME)
    assert platform.find(submission()) == replace(new, status=JobStatus.RUNNING)


def test_a_job_that_never_arrived_is_not_found(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    assert platform.find(submission()) is None
    assert calls(cluster) == (0, 2)


def test_a_cluster_that_cannot_be_asked_for_a_job_is_an_error(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add(GET)
    with pytest.raises(KubernetesError):
        platform.find(submission())


def test_many_threads_submit_many_jobs_through_one_client(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    tokens = [f"{number:016x}"[::-1] for number in range(24)]

    def submit(number: int, token: str) -> None:
        platform.submit(PEER_SPEC, submission(f"job-{number}", token))

    threads = [threading.Thread(target=submit, args=each) for each in enumerate(tokens)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = {body["metadata"]["name"]: body["metadata"]["labels"]["caliban.token"] for body in cluster.bodies(CREATE)}
    assert sent == {f"job-{number}": token for number, token in enumerate(tokens)}
    assert calls(cluster) == (24, 0)


def test_a_name_is_that_of_the_container_and_the_token(platform: KubeconfigPlatform) -> None:
    assert platform.job_name(PEER_SPEC, TOKEN) == NAME


def test_connecting_looks_for_the_namespace(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.connect(DESTINATION)
    assert [received.path for received in cluster.requests] == ["/api/v1/namespaces/default"]


def test_connecting_to_a_namespace_that_is_not_there_says_so(platform: KubeconfigPlatform) -> None:
    with pytest.raises(KubernetesError) as caught:
        platform.connect({**DESTINATION, "namespace": "gone"})
    assert caught.value.id == "namespace-not-found"


def test_who_may_not_see_namespaces_may_still_submit(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.forbidden.add("namespaces.get")
    platform.connect(DESTINATION)


def test_connecting_with_credentials_that_are_not_accepted_says_so(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": "planted-token"})
    with pytest.raises(KubernetesError) as caught:
        KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).connect(DESTINATION)
    assert caught.value.id == "kubernetes-not-authenticated"


def test_a_re_run_goes_to_the_recorded_context_and_namespace(
    platform: KubeconfigPlatform, kubeconfig: Path, cluster: KubeApi
) -> None:
    new = platform.submit(PEER_SPEC, submission(target=LAB))
    cluster.write_kubeconfig(kubeconfig, "another")
    assert platform.target(record_of(new)) == LAB


def test_the_manifest_of_a_submission_is_what_the_export_writes(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.submit(PEER_SPEC, submission())
    assert cluster.bodies(CREATE) == [manifest(PEER_SPEC, NAME, OUR_LABELS)]
