"""What a stand-in cluster accepts, what it makes of it, and what it refuses in the words of the real one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from kubernetes import client  # type: ignore[import-untyped, unused-ignore]

from tests.standins.kubernetes import KubeApi, Quota, Webhook
from tests.standins.kubernetes.admission import MutatingPolicy, ValidatingPolicy
from tests.standins.kubernetes.callers import JOBS, Official, Raw, job_body, refusal, told
from tests.standins.kubernetes.schema import known_versions

VERSIONS = ["1.30", "1.33", "1.36"]


def pod_of(body: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = body["spec"]["template"]["spec"]
    return pod


def with_pod(**changes: Any) -> dict[str, Any]:
    """A Job whose pod is changed."""
    body = job_body()
    pod_of(body).update(changes)
    return body


def with_container(**changes: Any) -> dict[str, Any]:
    """A Job whose container is changed; None takes a field away."""
    body = job_body()
    container = {**pod_of(body)["containers"][0], **changes}
    pod_of(body)["containers"] = [{key: value for key, value in container.items() if value is not None}]
    return body


def with_metadata(**changes: Any) -> dict[str, Any]:
    body = job_body()
    body["metadata"].update(changes)
    return body


def test_an_accepted_job_is_told_with_what_the_cluster_adds(official: Official) -> None:
    job = official.batch.create_namespaced_job("default", job_body())
    labels = {
        "batch.kubernetes.io/controller-uid": job.metadata.uid,
        "batch.kubernetes.io/job-name": "a-job",
        "controller-uid": job.metadata.uid,
        "job-name": "a-job",
    }
    assert job.spec.template.metadata.labels == labels
    assert job.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": job.metadata.uid}
    given = (job.spec.parallelism, job.spec.completions, job.spec.backoff_limit, job.spec.completion_mode)
    assert given == (1, 1, 6, "NonIndexed")
    assert (job.spec.suspend, job.metadata.namespace, job.metadata.generation) == (False, "default", 1)
    assert job.metadata.resource_version
    assert job.metadata.creation_timestamp
    assert (job.status.active, job.status.conditions) == (None, None)


def test_a_container_gets_requests_by_its_limits_and_a_pull_policy_by_its_tag(raw: Raw) -> None:
    body = with_container(image="registry.example.com:5000/x", resources={"limits": {"cpu": "500m"}})
    container = pod_of(raw.send("POST", JOBS, body).json())["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_as_the_peer_has_recorded_it_is_accepted(version: str, tmp_path: Path) -> None:
    body = with_container(
        imagePullPolicy="Always",
        env=[],
        resources={"requests": {"cpu": "31000m", "memory": "119000M"}, "limits": {}},
    )
    body["metadata"] = {"generateName": "job-stop-test-", "namespace": "default"}
    body["spec"]["backoffLimit"] = 4
    spot = "cloud.google.com/gke-preemptible"
    toleration = {"effect": "NoSchedule", "key": spot, "operator": "Equal", "value": "true"}
    pod_of(body).update(hostIPC=True, nodeSelector={spot: "true"}, tolerations=[toleration])
    with KubeApi(version) as cluster:
        assert Raw.of(cluster, tmp_path).send("POST", JOBS, body).status_code == 201


def test_a_generated_name_has_five_letters_that_spell_nothing(official: Official) -> None:
    body = job_body()
    body["metadata"] = {"generateName": "run-"}
    name = official.batch.create_namespaced_job("default", body).metadata.name
    assert re.fullmatch("run-[bcdfghjklmnpqrstvwxz2456789]{5}", name)


def test_a_dry_run_checks_everything_and_keeps_nothing(official: Official, cluster: KubeApi) -> None:
    assert official.batch.create_namespaced_job("default", job_body(), dry_run="All").metadata.uid
    assert official.batch.list_namespaced_job("default").items == []
    with pytest.raises(client.ApiException) as error:
        official.batch.create_namespaced_job("default", with_pod(restartPolicy="Always"), dry_run="All")
    assert error.value.status == 422


@pytest.mark.parametrize("version", known_versions())
def test_what_is_answered_is_valid_itself(version: str, tmp_path: Path) -> None:
    with KubeApi(version) as cluster:
        raw = Raw.of(cluster, tmp_path)
        raw.send("POST", JOBS, job_body())
        cluster.jobs.image_pull_fails("a-job", "not found")
        cluster.jobs.start("a-job")
        cluster.jobs.evict("a-job")
        cluster.jobs.succeed("a-job")
        pods = raw.send("GET", "/api/v1/namespaces/default/pods").json()
        answers = [raw.send("GET", f"{JOBS}/a-job").json(), raw.send("GET", JOBS).json(), pods]
        answers += [{"kind": "Pod", "apiVersion": "v1", **pod} for pod in pods["items"]]
        answers.append(raw.send("GET", "/api/v1/namespaces/default").json())
    assert [kubernetes_validate.validate(answer, version, strict=True) for answer in answers] == [version] * 6


def test_a_version_without_schemas_cannot_be_stood_in_for() -> None:
    with pytest.raises(ValueError, match=r"but none of 1\.2"):
        KubeApi("1.2")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (job_body(color="blue", size=1), 'unknown field "spec.color", unknown field "spec.size"'),
        (with_container(imagee="x"), 'unknown field "spec.template.spec.containers[0].imagee"'),
        (with_metadata(label={}), 'unknown field "metadata.label"'),
    ],
)
def test_a_field_that_there_is_not_is_refused(version: str, tmp_path: Path, body: dict[str, Any], words: str) -> None:
    with KubeApi(version) as cluster:
        status = refusal(Raw.of(cluster, tmp_path).send("POST", JOBS, body))
    start = 'Job in version "v1" cannot be handled as a Job: strict decoding error: '
    assert (status["reason"], status["message"]) == ("BadRequest", start + words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            job_body(backoffLimit="3"),
            "cannot unmarshal string into Go struct field Job.spec.backoffLimit of type int32",
        ),
        (with_container(args="--foo"), "cannot unmarshal string into Go struct field"),
        (with_metadata(labels={"seed": 3}), "cannot unmarshal number into Go struct field Job.metadata.labels.seed"),
        (with_container(resources={"limits": {"cpu": "lots"}}), "quantities must match the regular expression"),
        (with_container(resources={"limits": {"memory": "64gb"}}), "quantities must match the regular expression"),
        ({**job_body(), "kind": "CronJob"}, 'no kind "CronJob" is registered for version "batch/v1"'),
        ({**job_body(), "apiVersion": "batch/v1beta1"}, 'no kind "Job" is registered for version "batch/v1beta1"'),
        (with_metadata(namespace="team"), "the namespace of the provided object does not match the namespace sent"),
        ([], "couldn't get version/kind"),
    ],
)
def test_what_cannot_be_decoded_is_a_bad_request(raw: Raw, body: object, words: str) -> None:
    status = refusal(raw.send("POST", JOBS, body))
    assert status["reason"] == "BadRequest"
    assert words in status["message"]


POD = "spec.template.spec"
MAIN = f"{POD}.containers[0]"
INVALID = [
    (with_metadata(name="Big"), "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
    (with_metadata(name="a" * 254), "metadata.name", "must be no more than 253 characters"),
    (with_metadata(name="a" * 64), "spec.template.labels", "must be no more than 63 characters"),
    (with_metadata(name=""), "metadata.name", "Required value: name or generateName is required"),
    (with_metadata(labels={"a b": "x"}), "metadata.labels", "name part must consist of alphanumeric characters"),
    (with_metadata(labels={"A/b": "x"}), "metadata.labels", "name part must consist of alphanumeric characters"),
    (with_metadata(labels={"a": "x" * 64}), "metadata.labels", "must be no more than 63 characters"),
    (with_metadata(labels={"a": "-x"}), "metadata.labels", "a valid label must be an empty string or consist of"),
    (with_metadata(annotations={"a": "x" * 300_000}), "metadata.annotations", "may not be more than 262144 bytes"),
    (with_metadata(finalizers=["mine"]), "metadata.finalizers[0]", "neither a standard finalizer name nor"),
    (job_body(backoffLimit=-1), "spec.backoffLimit", "Invalid value: -1: must be greater than or equal to 0"),
    (job_body(ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished", "must be greater than or equal to 0"),
    (job_body(completionMode="All"), "spec.completionMode", 'supported values: "NonIndexed", "Indexed"'),
    (job_body(completionMode="Indexed", parallelism=2), "spec.completions", "when completion mode is Indexed"),
    (job_body(selector={"matchLabels": {"a": "b"}}), "spec.selector", "`selector` not auto-generated"),
    (job_body(manualSelector=True), "spec.selector", "Required value"),
    (with_pod(restartPolicy="Always"), f"{POD}.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'),
    (with_pod(restartPolicy="Often"), f"{POD}.restartPolicy", 'supported values: "OnFailure", "Never"'),
    (with_pod(containers=[]), f"{POD}.containers", "Required value"),
    (with_pod(nodeSelector={"a": "b c"}), f"{POD}.nodeSelector", "a valid label must be"),
    (with_pod(activeDeadlineSeconds=-1), f"{POD}.activeDeadlineSeconds", "must be greater than or equal to 0"),
    (with_pod(serviceAccountName="Me"), f"{POD}.serviceAccountName", "a lowercase RFC 1123 subdomain"),
    (with_pod(volumes=[{"name": "v"}]), f"{POD}.volumes[0]", "Required value: must specify a volume type"),
    (with_pod(volumes=[{"name": "V", "emptyDir": {}}]), f"{POD}.volumes[0].name", "a lowercase RFC 1123 label"),
    (with_pod(volumes=[{"name": "v", "emptyDir": {}}] * 2), f"{POD}.volumes[1].name", "Duplicate value"),
    (
        with_pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        f"{POD}.volumes[0].hostPath",
        "Forbidden: may not specify more than 1 volume type",
    ),
    (with_pod(tolerations=[{"key": "a", "operator": "Is"}]), f"{POD}.tolerations[0].operator", '"Equal", "Exists"'),
    (with_pod(tolerations=[{"operator": "Equal"}]), f"{POD}.tolerations[0].operator", "operator must be Exists when"),
    (
        with_pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        f"{POD}.tolerations[0].operator",
        "value must be empty when `operator` is 'Exists'",
    ),
    (with_pod(tolerations=[{"key": "a", "effect": "No"}]), f"{POD}.tolerations[0].effect", '"NoSchedule"'),
    (
        with_pod(tolerations=[{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]),
        f"{POD}.tolerations[0].effect",
        "effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    (with_container(name="Main"), f"{MAIN}.name", "a lowercase RFC 1123 label must consist of"),
    (with_container(name=None), f"{MAIN}.name", "Required value"),
    (with_container(image=None), f"{MAIN}.image", "Required value"),
    (with_container(image=" x"), f"{MAIN}.image", "must not have leading or trailing whitespace"),
    (with_container(imagePullPolicy="No"), f"{MAIN}.imagePullPolicy", '"Always", "IfNotPresent", "Never"'),
    (with_container(env=[{"name": ""}]), f"{MAIN}.env[0].name", "Required value"),
    (with_container(env=[{"name": "A=B"}]), f"{MAIN}.env[0].name", "a valid environment variable name must not"),
    (
        with_container(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        f"{MAIN}.volumeMounts[0].name",
        'Not found: "data"',
    ),
    (
        with_container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}),
        f"{MAIN}.resources.requests",
        'Invalid value: "1500m": must be less than or equal to cpu limit of 1',
    ),
    (
        with_container(resources={"limits": {"nvidia.com/gpu": "500m"}}),
        f"{MAIN}.resources.limits[nvidia.com/gpu]",
        "must be an integer",
    ),
    (
        with_container(resources={"requests": {"google.com/tpu": "8"}}),
        f"{MAIN}.resources.limits",
        "Required value: Limit must be set for non overcommitable resources",
    ),
    (
        with_container(resources={"limits": {"google.com/tpu": "8"}, "requests": {"google.com/tpu": "4"}}),
        f"{MAIN}.resources.requests",
        "must be equal to google.com/tpu limit of 8",
    ),
    (
        with_container(resources={"limits": {"gpu": "1"}}),
        f"{MAIN}.resources.limits[gpu]",
        "must be a standard resource type or fully qualified",
    ),
    (
        with_container(resources={"limits": {"cpu": "-1"}}),
        f"{MAIN}.resources.limits[cpu]",
        "must be greater than or equal to 0",
    ),
]


@pytest.mark.parametrize(("body", "field", "words"), INVALID)
def test_what_the_schema_lets_through_is_checked_too(raw: Raw, body: dict[str, Any], field: str, words: str) -> None:
    status = refusal(raw.send("POST", JOBS, body))
    assert (status["code"], status["reason"], status["details"]["kind"]) == (422, "Invalid", "Job")
    assert any(cause["field"] == field and words in cause["message"] for cause in status["details"]["causes"])
    assert status["message"].startswith(f'Job.batch "{body["metadata"]["name"]}" is invalid: ')


def test_two_containers_of_one_name_are_refused(raw: Raw) -> None:
    body = job_body()
    pod_of(body)["containers"] *= 2
    causes = refusal(raw.send("POST", JOBS, body))["details"]["causes"]
    named = {
        "reason": "FieldValueDuplicate",
        "message": 'Duplicate value: "main"',
        "field": f"{POD}.containers[1].name",
    }
    assert causes == [named]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "Stop", "onExitCodes": {"operator": "In", "values": [1]}}, '"FailJob", "Ignore"'),
        ({"action": "Ignore"}, "specifying one of OnExitCodes and OnPodConditions is required"),
        ({"action": "Count", "onExitCodes": {"operator": "Is", "values": [1]}}, 'supported values: "In", "NotIn"'),
        ({"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}, "must not be 0 for the In operator"),
        (
            {"action": "Count", "onExitCodes": {"operator": "In", "values": [1], "containerName": "x"}},
            "must be one of the container or initContainer names in the pod template",
        ),
        (
            {"action": "Count", "onPodConditions": [{"type": "Ready", "status": "Maybe"}]},
            'supported values: "False", "True", "Unknown"',
        ),
    ],
)
def test_a_failure_policy_that_means_nothing_is_refused(raw: Raw, rule: dict[str, Any], words: str) -> None:
    status = refusal(raw.send("POST", JOBS, job_body(podFailurePolicy={"rules": [rule]})))
    assert words in status["message"]


def test_a_failure_policy_is_for_pods_that_are_never_restarted(raw: Raw) -> None:
    body = with_pod(restartPolicy="OnFailure")
    body["spec"]["podFailurePolicy"] = {"rules": []}
    words = 'only "Never" is supported when podFailurePolicy is specified'
    assert words in refusal(raw.send("POST", JOBS, body))["message"]


def test_a_job_that_was_read_from_a_cluster_cannot_be_sent_as_it_is(official: Official, raw: Raw) -> None:
    official.batch.create_namespaced_job("default", job_body())
    again = raw.send("GET", f"{JOBS}/a-job").json()
    again["metadata"]["name"] = "another"
    assert "resourceVersion should not be set" in refusal(raw.send("POST", JOBS, again))["message"]
    del again["metadata"]["resourceVersion"]
    status = refusal(raw.send("POST", JOBS, again))
    fields = {cause["field"] for cause in status["details"]["causes"]}
    assert {"spec.selector", "spec.template.metadata.labels[job-name]"} < fields


def test_a_name_is_taken_once_in_a_namespace(official: Official) -> None:
    official.batch.create_namespaced_job("default", job_body())
    official.batch.create_namespaced_job("team", job_body())
    with pytest.raises(client.ApiException) as error:
        official.batch.create_namespaced_job("default", job_body())
    status = told(error.value)
    assert (status["reason"], status["message"]) == ("AlreadyExists", 'jobs.batch "a-job" already exists')
    assert status["details"] == {"name": "a-job", "group": "batch", "kind": "jobs"}


def test_nothing_is_made_in_a_namespace_that_is_gone(raw: Raw, cluster: KubeApi) -> None:
    cluster.state.remove_namespace("default")
    status = refusal(raw.send("POST", JOBS, job_body()))
    assert (status["reason"], status["message"]) == ("NotFound", 'namespaces "default" not found')


def test_nothing_is_made_in_a_namespace_that_is_going(raw: Raw, cluster: KubeApi) -> None:
    cluster.state.terminate_namespace("default")
    status = refusal(raw.send("POST", JOBS, job_body()))
    words = "unable to create new content in namespace default because it is being terminated"
    assert (status["code"], status["message"]) == (403, f'jobs.batch "a-job" is forbidden: {words}')
    assert status["details"]["causes"][0]["reason"] == "NamespaceTerminating"


def test_a_quota_counts_the_jobs_of_a_namespace(raw: Raw, cluster: KubeApi) -> None:
    cluster.quota = Quota("compute", 1)
    assert raw.send("POST", JOBS, job_body("first")).status_code == 201
    status = refusal(raw.send("POST", JOBS, job_body("second")))
    words = (
        "exceeded quota: compute, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: count/jobs.batch=1"
    )
    assert (status["reason"], status["message"]) == ("Forbidden", f'jobs.batch "second" is forbidden: {words}')


def test_a_webhook_may_say_nothing(raw: Raw, cluster: KubeApi) -> None:
    cluster.webhooks.append(Webhook("policy.example.com", lambda job: "", 403))
    status = refusal(raw.send("POST", JOBS, job_body()))
    words = 'admission webhook "policy.example.com" denied the request without explanation'
    assert (status["code"], status["message"]) == (403, words)


def test_a_webhook_denies_with_its_own_words(raw: Raw, cluster: KubeApi) -> None:
    cluster.webhooks.append(
        Webhook("policy.example.com", lambda job: "no team label" if job["metadata"]["name"] else None)
    )
    status = refusal(raw.send("POST", JOBS, job_body()))
    assert status["message"] == 'admission webhook "policy.example.com" denied the request: no team label'
    assert (status["code"], "reason" in status) == (400, False)


def test_a_mutating_policy_changes_a_job_before_it_is_checked(raw: Raw, cluster: KubeApi) -> None:
    added = {"name": "a", "image": "x"}
    cluster.mutating.append(MutatingPolicy("p", lambda job: pod_of(job)["containers"].insert(0, added)))
    made = raw.send("POST", JOBS, job_body()).json()
    names = [(each["name"], each["imagePullPolicy"]) for each in pod_of(made)["containers"]]
    assert names == [("a", "Always"), ("main", "IfNotPresent")]
    cluster.mutating.append(MutatingPolicy("p", lambda job: pod_of(job).update(restartPolicy="Always")))
    assert refusal(raw.send("POST", JOBS, job_body("b-job")))["code"] == 422


def test_a_mutating_policy_that_fails_is_said_to_deny(raw: Raw, cluster: KubeApi) -> None:
    cluster.mutating.append(MutatingPolicy("p", lambda job: None, error="JSON Patch: missing value"))
    status = refusal(raw.send("POST", JOBS, job_body()))
    words = "policy 'p' with binding 'p' denied request: JSON Patch: missing value"
    assert (status["code"], status["reason"], status["message"]) == (403, "Invalid", words)


def test_a_validating_policy_denies_with_its_own_words(raw: Raw, cluster: KubeApi) -> None:
    cluster.validating.append(ValidatingPolicy("p", lambda job: "no team"))
    status = refusal(raw.send("POST", JOBS, job_body()))
    by = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no team"
    assert (status["code"], status["message"]) == (422, f'jobs.batch "a-job" is forbidden: {by}')


def test_a_webhook_that_cannot_be_called_is_an_internal_error(raw: Raw, cluster: KubeApi) -> None:
    cluster.webhooks.append(Webhook("x.example.com", lambda job: None, error="refused"))
    status = refusal(raw.send("POST", JOBS, job_body()))
    words = 'Internal error occurred: failed calling webhook "x.example.com": failed to call webhook: refused'
    assert (status["code"], status["reason"], status["message"]) == (500, "InternalError", words)


def test_every_cluster_has_the_namespace_of_its_system(raw: Raw) -> None:
    found = raw.send("GET", "/api/v1/namespaces/kube-system").json()
    assert found["metadata"]["uid"]


@pytest.mark.parametrize(
    ("size", "code", "words"),
    [
        (1_600_000, 500, "etcdserver: request is too large"),
        (3_200_000, 413, "Request entity too large: limit is 3145728"),
    ],
)
def test_a_body_that_is_too_large_is_refused(raw: Raw, size: int, code: int, words: str) -> None:
    status = refusal(raw.send("POST", JOBS, with_container(args=["x" * size])))
    assert (status["code"], status["message"]) == (code, words)


def test_a_body_that_is_no_json_is_refused(raw: Raw) -> None:
    headers = {"Content-Type": "application/json"}
    answer = raw.session.post(raw.url + JOBS, data="{", headers=headers, timeout=10)
    assert "json parse error" in refusal(answer)["message"]


def test_a_body_of_another_type_is_refused(raw: Raw) -> None:
    answer = raw.session.post(raw.url + JOBS, data="x: 1", headers={"Content-Type": "text/plain"}, timeout=10)
    assert refusal(answer)["reason"] == "UnsupportedMediaType"


@pytest.mark.parametrize("query", ["dryRun=Some", "fieldValidation=Loose", f"fieldManager={'x' * 129}"])
def test_options_that_mean_nothing_are_refused(raw: Raw, query: str) -> None:
    status = refusal(raw.send("POST", f"{JOBS}?{query}", job_body()))
    assert (status["code"], status["details"]["kind"]) == (422, "CreateOptions")
