"""A job belongs to its cluster, not to a context's or a cluster's name: that may come to mean another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import yaml

from caliban.errors import CalibanError
from caliban.platforms.kubernetes.choice import ClusterChoice
from caliban.platforms.kubernetes.details import GkeDestination, KubeconfigDestination
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, StatusUnavailable
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    PEER_SPEC,
    QUICK,
    platform_context,
    record_of,
    submission,
)
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import NAMESPACES

ANY = ClusterChoice(None, None, "lab", None)


@pytest.fixture
def other() -> Iterator[KubeApi]:
    """Another cluster, whose kubeconfig calls its context by the same name."""
    with KubeApi("1.33", {"default", "lab"}) as running:
        yield running


def new_platform(kubeconfig: Path, reporter: RecordingReporter | None = None) -> KubeconfigPlatform:
    """Return the platform of another command."""
    return KubeconfigPlatform(platform_context(kubeconfig=kubeconfig, reporter=reporter), QUICK)


def submitted(kubeconfig: Path) -> tuple[JobRecord, KubeconfigDestination]:
    platform = new_platform(kubeconfig)
    destination = platform.choose(ANY)
    return record_of(platform.submit(PEER_SPEC, submission(destination=destination), may_send)), destination


def uid_of(cluster: KubeApi) -> str:
    return str(cluster.state.get(NAMESPACES, "", "kube-system")["metadata"]["uid"])


def rename(kubeconfig: Path, name: str) -> None:
    """Give the context another name, and its cluster and user in the kubeconfig, too."""
    content = yaml.safe_load(kubeconfig.read_text())
    for group in ("contexts", "clusters", "users"):
        content[group][0]["name"] = name
    content["contexts"][0]["context"] |= {"cluster": name, "user": name}
    content["current-context"] = name
    kubeconfig.write_text(yaml.safe_dump(content))


def jobs_requests(cluster: KubeApi) -> int:
    return sum(count for method, count in cluster.counts.items() if method.startswith("jobs."))


def refusal(call: object) -> CalibanError:
    assert callable(call)
    with pytest.raises(CalibanError) as caught:
        call()
    return caught.value


def test_the_destination_has_the_uid_of_kube_system_and_the_server(cluster: KubeApi, kubeconfig: Path) -> None:
    job, destination = submitted(kubeconfig)
    assert destination.cluster_uid == uid_of(cluster)
    assert destination.cluster_server.startswith(f"{cluster.url} ")
    assert KubeconfigDestination.from_json(destination.to_json()) == destination
    assert job.details.destination == destination
    assert job.details.raw["cluster_uid"] == uid_of(cluster)


def test_a_job_is_not_looked_for_on_another_cluster_of_the_same_name(
    cluster: KubeApi, other: KubeApi, kubeconfig: Path
) -> None:
    job, _ = submitted(kubeconfig)
    other.write_kubeconfig(kubeconfig, "lab")

    answer = new_platform(kubeconfig).statuses([job])[job.id]

    assert isinstance(answer, StatusUnavailable)
    assert answer.reason.startswith("the cluster of the context lab is not the one where the job was submitted")
    assert uid_of(cluster) in answer.reason
    assert jobs_requests(other) == 0


def test_a_job_on_another_cluster_of_the_same_name_is_neither_stopped_nor_called_stopped(
    other: KubeApi, kubeconfig: Path
) -> None:
    job, _ = submitted(kubeconfig)
    other.write_kubeconfig(kubeconfig, "lab")
    platform = new_platform(kubeconfig)
    assert refusal(lambda: platform.stop(job)).id == "another-cluster"
    assert jobs_requests(other) == 0


def test_a_submission_is_not_looked_up_on_another_cluster_of_the_same_name(other: KubeApi, kubeconfig: Path) -> None:
    _, destination = submitted(kubeconfig)
    other.write_kubeconfig(kubeconfig, "lab")
    platform = new_platform(kubeconfig)
    assert refusal(lambda: platform.find(submission(destination=destination))).id == "another-cluster"
    assert jobs_requests(other) == 0


def test_a_job_is_not_re_run_on_another_cluster_of_the_same_name(other: KubeApi, kubeconfig: Path) -> None:
    job, destination = submitted(kubeconfig)
    other.write_kubeconfig(kubeconfig, "lab")
    platform = new_platform(kubeconfig)
    assert refusal(lambda: platform.destination(job)).id == "another-cluster"
    assert refusal(lambda: platform.connect(destination)).id == "another-cluster"
    again = submission("x-ffffffffff", "f" * 16, destination)
    assert refusal(lambda: platform.submit(PEER_SPEC, again, may_send)).id == "another-cluster"
    assert jobs_requests(other) == 0


def test_a_renamed_context_is_found_by_its_cluster(
    cluster: KubeApi, other: KubeApi, kubeconfig: Path, reporter: RecordingReporter
) -> None:
    job, destination = submitted(kubeconfig)
    rename(kubeconfig, "production")
    other.write_kubeconfig(kubeconfig, "lab")
    platform = new_platform(kubeconfig, reporter)
    assert platform.statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}
    assert platform.find(submission(destination=destination)) is not None
    again = platform.destination(job)
    assert (again.context, again.cluster_uid) == ("production", uid_of(cluster))
    assert platform.stop(job).status is JobStatus.STOPPED
    assert reporter.lines == ["the cluster of the context lab is found in the context production"]
    assert jobs_requests(other) == 0


def test_a_cluster_is_found_by_another_address(cluster: KubeApi, other: KubeApi, kubeconfig: Path) -> None:
    job, _ = submitted(kubeconfig)
    rename(kubeconfig, "production")
    kubeconfig.write_text(kubeconfig.read_text().replace("https://127.0.0.1:", "https://localhost:"))
    other.write_kubeconfig(kubeconfig, "lab")
    assert new_platform(kubeconfig).statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}


def test_a_removed_context_of_a_cluster_that_no_other_context_has_cannot_be_asked(
    other: KubeApi, kubeconfig: Path
) -> None:
    job, _ = submitted(kubeconfig)
    kubeconfig.unlink()
    other.write_kubeconfig(kubeconfig, "another")
    answer = new_platform(kubeconfig).statuses([job])[job.id]
    assert isinstance(answer, StatusUnavailable)
    assert 'has no context "lab"' in answer.reason


def test_a_context_that_cannot_be_asked_does_not_hide_the_cluster(cluster: KubeApi, kubeconfig: Path) -> None:
    job, _ = submitted(kubeconfig)
    rename(kubeconfig, "production")
    content = yaml.safe_load(kubeconfig.read_text())
    odd = {"broken": {}, "insecure": {"server": "http://192.0.2.1"}, "closed": {"server": "https://127.0.0.1:1"}}
    for name, entry in odd.items():
        content["clusters"].append({"name": name, "cluster": entry})
        content["contexts"].insert(0, {"name": name, "context": {"cluster": name, "user": "lab"}})
    content["contexts"].insert(0, {"name": "without", "context": {"cluster": "none"}})
    kubeconfig.write_text(yaml.safe_dump(content))
    assert new_platform(kubeconfig).statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}


@pytest.mark.parametrize("was_readable", [True, False])
def test_where_kube_system_is_not_readable_the_server_and_its_ca_tell_the_cluster(
    cluster: KubeApi, other: KubeApi, kubeconfig: Path, was_readable: bool
) -> None:
    if not was_readable:
        cluster.forbidden.add("namespaces.get")
    job, destination = submitted(kubeconfig)
    assert bool(destination.cluster_uid) == was_readable
    cluster.forbidden.add("namespaces.get")
    other.forbidden.add("namespaces.get")
    assert new_platform(kubeconfig).statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}
    other.write_kubeconfig(kubeconfig, "lab")
    assert isinstance(new_platform(kubeconfig).statuses([job])[job.id], StatusUnavailable)
    assert jobs_requests(other) == 0


def test_a_cluster_that_was_created_again_with_the_same_address_and_ca_is_another_one(
    cluster: KubeApi, kubeconfig: Path
) -> None:
    job, _ = submitted(kubeconfig)
    cluster.state.remove_namespace("kube-system")
    cluster.state.add_namespace("kube-system")
    before = jobs_requests(cluster)
    assert isinstance(new_platform(kubeconfig).statuses([job])[job.id], StatusUnavailable)
    assert jobs_requests(cluster) == before


def test_a_job_without_a_recorded_cluster_is_looked_up_by_the_context_and_its_own_uid(
    cluster: KubeApi, other: KubeApi, kubeconfig: Path
) -> None:
    old = record_of(new_platform(kubeconfig).submit(PEER_SPEC, submission(), may_send))
    assert old.details.destination == DESTINATION
    assert new_platform(kubeconfig).statuses([old]) == {old.id: JobUpdate(JobStatus.SUBMITTED)}
    assert new_platform(kubeconfig).destination(old).cluster_uid == uid_of(cluster)


def test_the_cluster_is_identified_once_for_many_jobs(cluster: KubeApi, kubeconfig: Path) -> None:
    job, _ = submitted(kubeconfig)
    before = cluster.counts["namespaces.get"]
    platform = new_platform(kubeconfig)
    platform.statuses([replace(job, id=number) for number in range(20)])
    platform.stop(job)
    assert cluster.counts["namespaces.get"] == before + 1


def test_a_cluster_that_cannot_be_connected_to_is_not_tried_again_for_each_job(
    cluster: KubeApi, kubeconfig: Path
) -> None:
    job, destination = submitted(kubeconfig)
    cluster.faults.add(Fault("*", "refuse", 1_000_000))
    platform = new_platform(kubeconfig)
    first = refusal(lambda: platform.stop(job))
    before = sum(cluster.counts.values())
    for _ in range(5):
        assert refusal(lambda: platform.stop(job)) is first
        assert refusal(lambda: platform.find(submission(destination=destination))) is first
    assert sum(cluster.counts.values()) == before


def test_a_cluster_that_could_not_be_connected_to_is_tried_again_later(cluster: KubeApi, kubeconfig: Path) -> None:
    job, _ = submitted(kubeconfig)
    cluster.faults.add(Fault("*", "status", 1, status=401, message="not yet"))
    platform = new_platform(kubeconfig)
    refusal(lambda: platform.stop(job))
    platform.context.clock.wait(Event(), 60)
    assert platform.stop(job).status is JobStatus.STOPPED


def test_jobs_of_two_clusters_of_one_context_name_are_two_places(
    cluster: KubeApi, other: KubeApi, kubeconfig: Path
) -> None:
    first, _ = submitted(kubeconfig)
    other.write_kubeconfig(kubeconfig, "lab")
    second, _ = submitted(kubeconfig)
    answers = new_platform(kubeconfig).statuses([first, replace(second, id=8)])
    assert isinstance(answers[first.id], StatusUnavailable)
    assert answers[8] == JobUpdate(JobStatus.SUBMITTED)


def test_a_gke_cluster_that_was_created_again_is_another_one(gke: ContainerV1, blueshift: KubeApi, key: Path) -> None:
    def platform() -> GkePlatform:
        context = platform_context(gke=gke, cloud_key=key, project_id="totoro-project")
        return GkePlatform(context, QUICK)

    destination = platform().choose(ClusterChoice("blueshift", "us-central1-a", None, None))
    assert destination.cluster_uid == uid_of(blueshift)
    job = record_of(platform().submit(PEER_SPEC, submission(destination=destination), may_send), platform="GKE")
    with KubeApi("1.33", accepts=gke.account.accepts) as again:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", again))
        assert isinstance(platform().statuses([job])[job.id], StatusUnavailable)
        assert refusal(lambda: platform().stop(job)).id == "another-cluster"
        assert jobs_requests(again) == 0


MALFORMED: list[JsonObject] = [
    {"context": "lab", "namespace": "../../x"},
    {"context": "lab", "namespace": ".."},
    {"context": "lab", "namespace": "a?b"},
    {"context": "lab", "namespace": ""},
    {"context": "lab", "namespace": "UPPER"},
    {"context": "lab", "namespace": 5},
    {"context": "lab\n\x1b[2J", "namespace": "default"},
    {"context": "", "namespace": "default"},
    {"context": {"a": 1}, "namespace": "default"},
    {"namespace": "default"},
    {"context": "lab"},
    {"context": "\ud800", "namespace": "default"},
    {},
]


@pytest.mark.parametrize("stored", MALFORMED)
def test_a_malformed_destination_of_a_store_row_is_an_error_before_anything_is_sent(
    cluster: KubeApi, platform: KubeconfigPlatform, stored: JsonObject
) -> None:
    row = replace(submission(), destination=stored)
    assert refusal(lambda: platform.find(row)).id == "malformed-destination"
    assert refusal(lambda: platform.submit(PEER_SPEC, row, may_send)).id == "malformed-destination"
    assert cluster.requests == []


@pytest.mark.parametrize(
    "changed",
    [
        {"location": "evil.example.com:80/x?"},
        {"location": "us-central1-a/../.."},
        {"project": "a/b"},
        {"project": "x?y"},
        {"cluster": "a b"},
        {"cluster": ".."},
        {"cluster": "x/../../y"},
    ],
)
def test_a_malformed_gke_destination_is_no_destination(changed: dict[str, str]) -> None:
    good = {"project": "totoro-project", "location": "us-central1-a", "cluster": "blueshift", "namespace": "default"}
    assert GkeDestination.from_json(good).problem is None
    assert refusal(lambda: GkeDestination.from_json({**good, **changed})).id == "malformed-destination"


@pytest.mark.parametrize("namespace", ["..", "x/y", "Lab", "x" * 64, "-x", "a?b"])
def test_a_malformed_namespace_is_refused_before_anything_is_sent(
    cluster: KubeApi, platform: KubeconfigPlatform, namespace: str
) -> None:
    error = refusal(lambda: platform.choose(replace(ANY, namespace=namespace)))
    assert (error.id, error.message) == ("malformed-destination", f'malformed namespace: "{namespace}"')
    assert cluster.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:eks:us-west-2:123456789012:cluster/lab",
        "gke_totoro-project_us-central1-a_blueshift",
        "kind-lab",
        "user@cluster.example.com",
        "mein Cluster ä",
        "default",
    ],
)
def test_any_name_of_a_context_in_one_line_is_accepted(name: str) -> None:
    assert KubeconfigDestination(name, namespace="default").problem is None
