"""Reading, listing, deleting, who may do so, and what can be made to go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from kubernetes import client  # type: ignore[import-untyped, unused-ignore]

from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import JOBS, Official, Raw, job_body, refusal, told
from tests.standins.oauth import ServiceAccount


def labelled(name: str, **labels: str) -> dict[str, Any]:
    body = job_body(name)
    body["metadata"]["labels"] = labels
    return body


def names(found: Any) -> list[str]:
    return [item.metadata.name for item in found.items]


@pytest.fixture
def five_jobs(official: Official) -> list[str]:
    """The names of five Jobs."""
    made = [f"job-{number}" for number in range(5)]
    for name in reversed(made):
        official.batch.create_namespaced_job("default", job_body(name))
    return made


def test_a_job_is_read_by_its_name(official: Official) -> None:
    uid = official.batch.create_namespaced_job("default", job_body()).metadata.uid
    read = official.batch.read_namespaced_job("a-job", "default")
    assert (read.kind, read.api_version, read.metadata.uid) == ("Job", "batch/v1", uid)


def test_a_job_that_there_is_not_is_told_to_be_so(official: Official) -> None:
    with pytest.raises(client.ApiException) as error:
        official.batch.read_namespaced_job("a-job", "default")
    status = told(error.value)
    assert (status["reason"], status["message"]) == ("NotFound", 'jobs.batch "a-job" not found')


def test_the_version_and_the_namespaces_are_told(official: Official) -> None:
    assert official.version.get_code().git_version == "v1.33.0"
    assert official.core.read_namespace("team").status.phase == "Active"
    with pytest.raises(client.ApiException) as error:
        official.core.read_namespace("gone")
    assert told(error.value)["message"] == 'namespaces "gone" not found'


def test_a_list_is_in_the_order_of_names_and_its_items_say_no_kind(five_jobs: list[str], raw: Raw) -> None:
    found = raw.send("GET", JOBS).json()
    assert (found["kind"], found["apiVersion"], "continue" in found["metadata"]) == ("JobList", "batch/v1", False)
    assert [item["metadata"]["name"] for item in found["items"]] == five_jobs
    assert not any({"kind", "apiVersion"} & set(item) for item in found["items"])


def test_a_list_of_a_namespace_that_is_gone_is_empty(official: Official, cluster: KubeApi) -> None:
    official.batch.create_namespaced_job("default", job_body())
    cluster.state.remove_namespace("default")
    assert official.batch.list_namespaced_job("default").items == []


def test_jobs_of_all_namespaces_can_be_listed(official: Official) -> None:
    for namespace in ("default", "team"):
        official.batch.create_namespaced_job(namespace, job_body())
    found = official.batch.list_job_for_all_namespaces()
    assert [item.metadata.namespace for item in found.items] == ["default", "team"]


def test_pages_go_on_where_the_first_one_began(five_jobs: list[str], official: Official) -> None:
    first = official.batch.list_namespaced_job("default", limit=2)
    official.batch.create_namespaced_job("default", job_body("job-2a"))
    official.batch.delete_namespaced_job("job-4", "default", propagation_policy="Background")
    second = official.batch.list_namespaced_job("default", limit=2, _continue=first.metadata._continue or "")
    third = official.batch.list_namespaced_job("default", limit=2, _continue=second.metadata._continue or "")
    assert [*names(first), *names(second), *names(third)] == five_jobs
    left = [page.metadata.remaining_item_count for page in (first, second, third)]
    assert left == [3, 1, None]
    assert third.metadata._continue is None
    assert first.metadata.resource_version == third.metadata.resource_version


def test_what_remains_is_not_counted_where_a_selector_is_given(raw: Raw, cluster: KubeApi) -> None:
    for number in range(3):
        raw.send("POST", JOBS, labelled(f"job-{number}", group="g"))
    metadata = raw.send("GET", f"{JOBS}?limit=1&labelSelector=group%3Dg").json()["metadata"]
    assert set(metadata) == {"resourceVersion", "continue"}


def test_a_token_gets_too_old(five_jobs: list[str], raw: Raw, cluster: KubeApi) -> None:
    token = raw.send("GET", f"{JOBS}?limit=2").json()["metadata"]["continue"]
    cluster.state.compact()
    status = refusal(raw.send("GET", f"{JOBS}?limit=2&continue={token}"))
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert status["message"].startswith("The provided continue parameter is too old to display a consistent list")
    rest = raw.send("GET", f"{JOBS}?continue={status['metadata']['continue']}").json()
    assert [item["metadata"]["name"] for item in rest["items"]] == five_jobs[2:]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("group=g", ["one", "two"]),
        ("group==g,phase=test", ["one"]),
        ("group!=g", ["four", "three"]),
        ("phase", ["one", "three"]),
        ("!phase", ["four", "two"]),
        ("group in (g, h)", ["one", "three", "two"]),
        ("group notin (g)", ["four", "three"]),
        ("group in (g),phase notin (test)", ["two"]),
        ("example.com/x=", ["four"]),
        ("", ["four", "one", "three", "two"]),
    ],
)
def test_labels_select_jobs(official: Official, selector: str, expected: list[str]) -> None:
    for body in (
        labelled("one", group="g", phase="test"),
        labelled("two", group="g"),
        labelled("three", group="h", phase="train"),
        labelled("four", **{"example.com/x": ""}),
    ):
        official.batch.create_namespaced_job("default", body)
    assert names(official.batch.list_namespaced_job("default", label_selector=selector)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=job-3", ["job-3"]),
        ("status.successful=1", ["job-1"]),
        ("status.successful!=1,metadata.name!=job-0", ["job-2", "job-3", "job-4"]),
    ],
)
def test_fields_select_jobs(
    five_jobs: list[str], official: Official, cluster: KubeApi, selector: str, expected: list[str]
) -> None:
    cluster.jobs.succeed("job-1")
    assert names(official.batch.list_namespaced_job("default", field_selector=selector)) == expected


def test_a_phase_selects_pods(five_jobs: list[str], official: Official, cluster: KubeApi) -> None:
    for name in five_jobs[:2]:
        cluster.jobs.start(name)
    cluster.jobs.succeed("job-1")
    (pod,) = official.core.list_namespaced_pod("default", field_selector="status.phase=Running").items
    assert pod.metadata.labels["job-name"] == "job-0"


@pytest.mark.parametrize(
    "query",
    [
        "labelSelector=a%3Db%3Dc",
        "labelSelector=a+in+b",
        "labelSelector=a+in+(b",
        "labelSelector=a%3Db,",
        "labelSelector=a+b",
        "labelSelector=%3Db",
        "labelSelector=-a%3Db",
        f"labelSelector=a%3D{'b' * 64}",
        "fieldSelector=spec.suspend%3Dtrue",
        "fieldSelector=metadata.name",
        "limit=ten",
        "continue=made-up",
    ],
)
def test_a_list_that_cannot_be_understood_is_a_bad_request(raw: Raw, query: str) -> None:
    assert refusal(raw.send("GET", f"{JOBS}?{query}"))["reason"] == "BadRequest"


def test_a_token_and_a_resource_version_exclude_each_other(five_jobs: list[str], raw: Raw) -> None:
    token = raw.send("GET", f"{JOBS}?limit=2").json()["metadata"]["continue"]
    answer = raw.send("GET", f"{JOBS}?limit=2&resourceVersion=7&continue={token}")
    assert "not allowed when using continue" in refusal(answer)["message"]


def test_parameters_that_mean_nothing_are_ignored_and_kept(raw: Raw, cluster: KubeApi) -> None:
    assert raw.send("GET", f"{JOBS}?pageSize=3").status_code == 200
    assert cluster.requests[-1].query == {"pageSize": "3"}


def test_a_deletion_in_the_background_takes_the_pods_with_it(official: Official, cluster: KubeApi) -> None:
    uid = official.batch.create_namespaced_job("default", job_body()).metadata.uid
    cluster.jobs.start("a-job")
    status = official.batch.delete_namespaced_job("a-job", "default", propagation_policy="Background")
    assert (status["status"], status["details"]["uid"], status["details"]["kind"]) == ("Success", uid, "jobs")
    assert official.batch.list_namespaced_job("default").items == []
    assert official.core.list_namespaced_pod("default").items == []


def test_a_deletion_without_a_policy_leaves_the_pods_behind(raw: Raw, official: Official, cluster: KubeApi) -> None:
    raw.send("POST", JOBS, job_body())
    cluster.jobs.start("a-job")
    gone = raw.send("DELETE", f"{JOBS}/a-job").json()
    assert (gone["kind"], gone["metadata"]["finalizers"]) == ("Job", ["orphan"])
    assert official.batch.list_namespaced_job("default").items == []
    assert [pod.status.phase for pod in official.core.list_namespaced_pod("default").items] == ["Running"]


@pytest.mark.parametrize("name", ["uid", "resourceVersion"])
def test_a_deletion_of_another_job_of_that_name_is_a_conflict(raw: Raw, name: str) -> None:
    raw.send("POST", JOBS, job_body())
    status = refusal(raw.send("DELETE", f"{JOBS}/a-job", {"preconditions": {name: "1"}}))
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"].startswith('Operation cannot be fulfilled on Job.batch "a-job": the ')


def test_a_deletion_that_says_what_it_expects_is_done_when_it_is_so(raw: Raw) -> None:
    uid = raw.send("POST", JOBS, job_body()).json()["metadata"]["uid"]
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
    assert raw.send("DELETE", f"{JOBS}/a-job", options).status_code == 200
    assert raw.send("GET", f"{JOBS}/a-job").status_code == 404


def test_a_dry_run_of_a_deletion_deletes_nothing(raw: Raw) -> None:
    raw.send("POST", JOBS, job_body())
    assert raw.send("DELETE", f"{JOBS}/a-job?dryRun=All&propagationPolicy=Background").status_code == 200
    assert raw.send("GET", f"{JOBS}/a-job").status_code == 200


@pytest.mark.parametrize(
    ("options", "code"),
    [({"propagationPolicy": "Later"}, 422), ({"gracePeriod": 3}, 400), ({"dryRun": ["All"], "color": "x"}, 400)],
)
def test_options_of_a_deletion_that_mean_nothing_are_refused(raw: Raw, options: dict[str, Any], code: int) -> None:
    raw.send("POST", JOBS, job_body())
    assert refusal(raw.send("DELETE", f"{JOBS}/a-job", options))["code"] == code


@pytest.mark.parametrize(
    ("verb", "path", "code"),
    [
        ("GET", "/apis/batch/v1/namespaces/default/cronjobs", 404),
        ("GET", "/api/v1/namespaces/default/secrets", 404),
        ("GET", "/apis/batch/v2/namespaces/default/jobs", 404),
        ("PATCH", f"{JOBS}/a-job", 405),
        ("PUT", f"{JOBS}/a-job", 405),
        ("DELETE", JOBS, 405),
        ("POST", f"{JOBS}/a-job", 405),
        ("POST", "/apis/batch/v1/jobs", 405),
        ("POST", "/api/v1/namespaces/default/pods", 405),
        ("GET", f"{JOBS}?watch=true", 405),
        ("DELETE", f"{JOBS}/a-job", 404),
    ],
)
def test_what_is_not_served_is_refused_with_a_status(raw: Raw, verb: str, path: str, code: int) -> None:
    assert refusal(raw.send(verb, path))["code"] == code


@pytest.mark.parametrize("path", ["/apis/kueue.x-k8s.io/v1beta2/namespaces/default/workloads", "/login"])
def test_a_group_of_apis_that_is_not_installed_is_refused_in_plain_text(raw: Raw, path: str) -> None:
    answer = raw.send("GET", path)
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")


def test_a_wrong_token_is_nobody_s(raw: Raw) -> None:
    status = refusal(raw.send("GET", JOBS, headers={"Authorization": "Bearer wrong"}))
    assert (status["code"], status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")


def test_who_shows_nothing_is_anonymous_and_may_do_nothing(raw: Raw) -> None:
    status = refusal(raw.send("GET", JOBS, headers={"Authorization": ""}))
    assert (status["code"], 'User "system:anonymous" cannot list resource "jobs"' in status["message"]) == (403, True)


def test_a_certificate_of_the_cluster_is_somebody(cluster: KubeApi, tmp_path: Path) -> None:
    kubeconfig = cluster.write_kubeconfig(tmp_path / "config", credential="certificate")
    with Official.of(kubeconfig) as official:
        assert official.batch.list_namespaced_job("default").items == []
    cluster.access.users.clear()
    with Official.of(kubeconfig) as official, pytest.raises(client.ApiException) as error:
        official.batch.list_namespaced_job("default")
    assert told(error.value)["code"] == 401


def test_tokens_that_somebody_else_issues_can_be_good(tmp_path: Path) -> None:
    account = ServiceAccount("totoro-project")
    with KubeApi(accepts=account.accepts) as cluster:
        raw = Raw.of(cluster, tmp_path)
        raw.session.headers["Authorization"] = "Bearer made-up"
        assert raw.send("GET", JOBS).status_code == 401
    with KubeApi(accepts=lambda token: token == "made-up") as cluster:
        raw = Raw.of(cluster, tmp_path)
        raw.session.headers["Authorization"] = "Bearer made-up"
        assert raw.send("GET", JOBS).status_code == 200


def test_nobody_trusts_a_cluster_without_its_authority(cluster: KubeApi) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(cluster.url + "/version", timeout=5)


def test_a_kubeconfig_holds_several_clusters(cluster: KubeApi, tmp_path: Path) -> None:
    with KubeApi("1.30") as other:
        cluster.write_kubeconfig(tmp_path / "config", "lab", "team")
        path = other.write_kubeconfig(tmp_path / "config", "old")
        versions = []
        for context in ("lab", "old", None):
            with Official.of(path, context) as official:
                versions.append(official.version.get_code().git_version)
    assert versions == ["v1.33.0", "v1.30.0", "v1.30.0"]
    contexts = {entry["name"]: entry["context"] for entry in yaml.safe_load(path.read_text())["contexts"]}
    assert contexts["lab"] == {"cluster": "lab", "user": "lab", "namespace": "team"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("method", "verb", "path", "words"),
    [
        (
            "jobs.create",
            "POST",
            JOBS,
            'jobs.batch is forbidden: User "standin" cannot create resource "jobs" in API group "batch" in the '
            'namespace "default"',
        ),
        (
            "jobs.get",
            "GET",
            f"{JOBS}/a-job",
            'jobs.batch "a-job" is forbidden: User "standin" cannot get resource "jobs" in API group "batch" in the '
            'namespace "default"',
        ),
        (
            "pods.list",
            "GET",
            "/api/v1/pods",
            'pods is forbidden: User "standin" cannot list resource "pods" in API group "" at the cluster scope',
        ),
        (
            "namespaces.get",
            "GET",
            "/api/v1/namespaces/team",
            'namespaces "team" is forbidden: User "standin" cannot get resource "namespaces" in API group "" in the '
            'namespace "team"',
        ),
        ("version.get", "GET", "/version", 'forbidden: User "standin" cannot get path "/version"'),
    ],
)
def test_what_rbac_does_not_allow_is_refused(
    raw: Raw, cluster: KubeApi, method: str, verb: str, path: str, words: str
) -> None:
    cluster.forbidden.add(method)
    status = refusal(raw.send(verb, path, job_body() if verb == "POST" else None))
    assert (status["code"], status["reason"], status["message"]) == (403, "Forbidden", words)


def test_requests_are_counted_by_method_and_kept(raw: Raw, cluster: KubeApi) -> None:
    raw.send("POST", JOBS, job_body())
    raw.send("GET", f"{JOBS}?limit=5")
    raw.send("GET", f"{JOBS}/a-job")
    raw.send("GET", "/nowhere")
    assert cluster.counts == {"jobs.create": 1, "jobs.list": 1, "jobs.get": 1, "unknown": 1}
    assert cluster.bodies("jobs.create") == [job_body()]


def test_a_dropped_answer_leaves_its_job_behind(raw: Raw, cluster: KubeApi) -> None:
    cluster.faults.add(Fault("jobs.create", "drop"))
    with pytest.raises(requests.ConnectionError):
        raw.send("POST", JOBS, job_body())
    assert cluster.jobs.get("a-job")["metadata"]["name"] == "a-job"


def test_a_refused_connection_leaves_nothing_behind(raw: Raw, cluster: KubeApi) -> None:
    cluster.faults.add(Fault("*", "refuse"))
    with pytest.raises(requests.ConnectionError):
        raw.send("POST", JOBS, job_body())
    assert raw.send("GET", JOBS).json()["items"] == []


@pytest.mark.parametrize(
    ("code", "reason"), [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")]
)
def test_a_status_can_be_made_up(raw: Raw, cluster: KubeApi, code: int, reason: str) -> None:
    cluster.faults.add(Fault("jobs.list", "status", status=code, retry_after="2", message="not now"))
    answer = raw.send("GET", JOBS)
    status = refusal(answer)
    assert (status["code"], status["reason"], status["message"]) == (code, reason, "not now")
    assert (answer.headers["Retry-After"], status["details"]) == ("2", {"retryAfterSeconds": 2})
    assert raw.send("GET", JOBS).status_code == 200


def test_a_proxy_s_page_can_come_instead_of_an_answer(raw: Raw, cluster: KubeApi) -> None:
    cluster.faults.add(Fault("jobs.list", "garbage"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw.send("GET", JOBS).text)
