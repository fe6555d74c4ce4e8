"""GKE: a job's recorded cluster is looked up and reached as Google says, with its CA, and tokens that are renewed."""

from __future__ import annotations

import base64
import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, PlatformError, UsageError
from caliban.platforms.base import JobUpdate, RefusedError, StatusUnavailable
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.kubernetes.gke_client import GkeService, _way_in
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.records import JobRecord, JobStatus, JsonObject, NewJob
from tests.fakes import HeardReporter
from tests.platforms.kubernetes.helpers import (
    GKE_DESTINATION,
    IMAGE,
    NAME,
    OUR_LABELS,
    PEER_DETAILS,
    PEER_SPEC,
    QUICK,
    SHORT,
    job_record,
    platform_context,
    submission,
    record_of,
)
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS

GET, LIST = "container.projects.locations.clusters.get", "container.projects.locations.clusters.list"
WHERE = "us-central1-a of project totoro-project"
LISTING = "`caliban cluster ls --project_id totoro-project` shows the clusters that there are"


def submit(platform: GkePlatform, target: JsonObject = GKE_DESTINATION) -> NewJob:
    return platform.submit(PEER_SPEC, submission(target=target, platform="GKE"))


def recorded(details: JsonObject = PEER_DETAILS) -> JobRecord:
    return job_record(details, platform="GKE")


def refusal(call: Any) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        call()
    return caught.value


def test_a_job_of_the_peer_is_run_again_on_its_recorded_cluster(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    target = gke_platform.target(recorded())
    assert target == GKE_DESTINATION
    gke_platform.connect(target)
    new = submit(gke_platform, target)
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["metadata"]["labels"] = OUR_LABELS
    assert blueshift.bodies("jobs.create") == [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME, "labels": OUR_LABELS}, "spec": spec}
    ]
    there = blueshift.jobs.get(NAME)["metadata"]
    kept = {key: there[key] for key in ("name", "namespace", "uid", "creationTimestamp", "labels")}
    place = {"cluster_name": "blueshift", "cluster_zone": "us-central1-a", "project_id": "totoro-project"}
    assert (new.container, new.details) == (
        IMAGE,
        {**place, "job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": kept}},
    )


def test_the_cluster_is_looked_up_once_where_it_is_recorded(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    new = submit(gke_platform)
    gke_platform.statuses([record_of(new, platform="GKE")])
    paths = [received.path for received in gke.requests if received.method != "oauth.token"]
    assert paths == ["/v1/projects/totoro-project/locations/us-central1-a/clusters/blueshift"]
    assert (gke.counts["oauth.token"], blueshift.counts["jobs.create"], blueshift.counts["jobs.list"]) == (1, 1, 1)


def test_the_peer_s_job_is_seen_by_its_recorded_name_and_uid(blueshift: KubeApi, gke_platform: GkePlatform) -> None:
    metadata = PEER_DETAILS["job"]["metadata"]
    name = metadata["name"]
    gke_platform.submit(PEER_SPEC, submission(name, target=GKE_DESTINATION, platform="GKE"))
    with blueshift.state.change(JOBS, "default", name) as there:
        there["metadata"].update(uid=metadata["uid"], labels={})
    for _ in range(5):
        blueshift.jobs.fail(name, 3)
    expected = JobUpdate(JobStatus.FAILED, {**PEER_DETAILS, "reason": "exit code 3"})
    assert gke_platform.statuses([recorded()]) == {7: expected}


def test_a_re_run_stays_on_its_cluster_whatever_project_is_asked_for_and_says_so_once(
    gke: ContainerV1, key: Path, reporter: HeardReporter
) -> None:
    around = platform_context(gke=gke, cloud_key=key, project_id="zoo-project", reporter=reporter)
    platform = GkePlatform(around, QUICK)
    assert [platform.target(recorded()) for _ in range(2)] == [GKE_DESTINATION, GKE_DESTINATION]
    assert reporter.said == [
        "jobs of the GKE cluster blueshift are re-run there, in project totoro-project, not in zoo-project"
    ]


@pytest.mark.parametrize("missing", ["cluster_name", "cluster_zone", "project_id", "job"])
def test_a_job_whose_cluster_is_not_recorded_whole_is_told(gke_platform: GkePlatform, missing: str) -> None:
    details = {name: value for name, value in PEER_DETAILS.items() if name != missing}
    error = refusal(lambda: gke_platform.target(recorded(details)))
    assert (error.id, error.message) == ("malformed-job-details", "where job 7 ran is not known")


def test_an_experiment_without_a_job_has_no_cluster(gke_platform: GkePlatform) -> None:
    error = refusal(lambda: gke_platform.target(None))
    assert (error.id, error.message) == ("malformed-job-details", "which cluster is meant is not said")


def test_a_cluster_that_is_gone_is_a_refusal_that_says_where_it_was(
    gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert (error.id, error.message, error.hint) == (
        "cluster-not-found",
        f"there is no GKE cluster blueshift in {WHERE}",
        LISTING,
    )
    assert "Not found: projects/totoro-project/zones/us-central1-a/clusters/blueshift." in str(error.cause)
    assert error.details["cluster_name"] == "blueshift"


def test_a_cluster_that_is_gone_decides_nothing_while_others_are_read(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    with KubeApi(accepts=gke.account.accepts) as other:
        gke.add("zoo-project", GkeCluster("lions", "europe-west4", other))
        place = {"project": "zoo-project", "location": "europe-west4", "cluster": "lions"}
        new = submit(gke_platform, {**GKE_DESTINATION, **place})
        gke.remove("totoro-project", "us-central1-a", "blueshift")
        found = gke_platform.statuses([recorded(), record_of(new, id=8, platform="GKE")])
    assert found[8] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[7], StatusUnavailable)
    assert found[7].reason.startswith(f"there is no GKE cluster blueshift in {WHERE}")


@pytest.mark.parametrize("status", ["PROVISIONING", "STOPPING", "ERROR"])
def test_a_cluster_that_does_not_run_is_told_by_its_status(
    gke: ContainerV1, gke_platform: GkePlatform, cluster: KubeApi, status: Any
) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster, status=status))
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert isinstance(error, PlatformError)
    assert (error.id, error.message, error.cause) == (
        "cluster-not-running",
        f"the GKE cluster blueshift in {WHERE} cannot be reached",
        f"its status is {status}",
    )
    assert cluster.requests == []


@pytest.mark.parametrize("status", ["RECONCILING", "DEGRADED"])
def test_a_cluster_that_is_being_repaired_is_tried(gke: ContainerV1, gke_platform: GkePlatform, status: Any) -> None:
    with KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster, status=status))
        gke_platform.connect(GKE_DESTINATION)
        assert cluster.counts["namespaces.get"] == 1


def test_a_cluster_without_an_endpoint_is_told(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert (error.id, error.cause) == ("cluster-not-running", "it has no endpoint (RUNNING)")


def test_a_cluster_that_may_not_be_seen_is_told_in_google_s_words(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    gke.forbidden.add("container.clusters.get")
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert error.id == "google-permission-denied"
    assert 'Required "container.clusters.get" permission(s)' in str(error.cause)
    assert blueshift.requests == []


def test_an_api_that_is_not_enabled_is_told_in_google_s_words(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    gke.disabled_in.add("totoro-project")
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert "Kubernetes Engine API has not been used in project totoro-project" in str(error.cause)


def test_a_server_that_the_cluster_s_ca_has_not_signed_gets_no_token(
    gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    with KubeApi() as impostor, KubeApi() as real:
        impostor_of = copy.copy(impostor)
        impostor_of.authority = real.authority
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", impostor_of))
        error = refusal(lambda: submit(gke_platform))
        assert impostor.requests == []
    assert isinstance(error, RefusedError)
    assert "certificate verify failed" in str(error.cause)


def test_a_token_that_lives_shortly_is_never_sent_when_it_is_over(tmp_path: Path) -> None:
    with ContainerV1(token_life_s=1) as gke, KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        key = gke.write_key_file(tmp_path / "key.json")
        platform = GkePlatform(platform_context(gke=gke, cloud_key=key), QUICK)
        new = submit(platform)
        assert platform.statuses([record_of(new, platform="GKE")]) == {7: JobUpdate(JobStatus.SUBMITTED)}
        assert gke.counts["oauth.token"] > 1


def test_credentials_that_google_refuses_are_a_refusal_since_nothing_was_sent(
    gke: ContainerV1, gke_platform: GkePlatform, blueshift: KubeApi
) -> None:
    gke.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert (error.cause, blueshift.requests) == ("invalid_grant: Token has been expired or revoked.", [])


def test_a_google_token_that_the_cluster_refuses_is_told(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    with KubeApi() as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert error.id == "kubernetes-not-authenticated"


def test_many_threads_submit_with_one_look_at_the_cluster(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    def send(number: int) -> None:
        token = f"{number:016x}"
        gke_platform.submit(PEER_SPEC, submission(f"job-{number}", token, GKE_DESTINATION, platform="GKE"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (gke.counts[GET], gke.counts["oauth.token"], blueshift.counts["jobs.create"]) == (1, 1, 12)


def test_a_lost_answer_is_no_second_job(blueshift: KubeApi, gke_platform: GkePlatform) -> None:
    blueshift.faults.add(Fault("jobs.create", "drop"))
    submit(gke_platform)
    assert [job["metadata"]["name"] for job in blueshift.state.items(JOBS)] == [NAME]


def test_a_google_that_fails_decides_nothing(blueshift: KubeApi, gke: ContainerV1, key: Path) -> None:
    gke.faults.add(Fault("*", "status", times=1000))
    failing = GkePlatform(platform_context(gke=gke, cloud_key=key), SHORT)
    assert isinstance(failing.statuses([recorded()])[7], StatusUnavailable)


def test_where_a_job_is_to_be_looked_at_is_a_page_and_a_command(gke_platform: GkePlatform) -> None:
    assert gke_platform.links(recorded()) == (
        "https://console.cloud.google.com/kubernetes/job/us-central1-a/blueshift/default/job-stop-test-rssqq/details"
        "?project=totoro-project",
        "kubectl --context gke_totoro-project_us-central1-a_blueshift --namespace default logs --follow "
        "job/job-stop-test-rssqq",
    )


@pytest.fixture
def service(gke_platform: GkePlatform) -> GkeService:
    return GkeService(gke_platform.google)


def test_a_cluster_is_found_by_its_name(gke: ContainerV1, blueshift: KubeApi, service: GkeService) -> None:
    gke.add("totoro-project", GkeCluster("other", "europe-west4"))
    assert service.location_of("totoro-project", "blueshift") == "us-central1-a"
    assert gke.counts[LIST] == 1


def test_a_name_that_several_clusters_have_is_told_with_where_they_are(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "europe-west4"))
    error = refusal(lambda: service.location_of("totoro-project", "blueshift"))
    assert isinstance(error, UsageError)
    assert (error.id, error.cause, error.hint) == (
        "cluster-ambiguous",
        "in europe-west4, us-central1-a",
        "name one of these with --zone",
    )


def test_a_name_that_no_cluster_has_is_told_with_those_that_there_are(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    error = refusal(lambda: service.location_of("totoro-project", "redshift"))
    assert (error.id, error.message, error.hint) == (
        "cluster-not-found",
        "project totoro-project has no GKE cluster redshift",
        "its clusters are blueshift (us-central1-a)",
    )


def test_a_cluster_of_a_zone_that_does_not_answer_is_not_told_to_be_none(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    gke.missing_zones.add("us-central1-a")
    error = refusal(lambda: service.location_of("totoro-project", "blueshift"))
    assert (error.message, error.cause) == (
        "project totoro-project has no GKE cluster blueshift that GKE can tell of",
        "these zones do not answer GKE: us-central1-a",
    )


def test_a_project_without_clusters_is_told(service: GkeService) -> None:
    error = refusal(lambda: service.location_of("zoo-project", "lions"))
    assert error.hint == "it has no clusters; --project_id names another project"


def test_a_project_that_may_not_be_seen_is_told(service: GkeService) -> None:
    error = refusal(lambda: service.clusters("strange-project"))
    assert isinstance(error, GoogleError)
    assert error.cause is not None
    assert error.cause.startswith("Permission denied on resource project strange-project.")


CA = base64.b64encode(b"certificate").decode()
DNS = {"dnsEndpointConfig": {"endpoint": "gke-1.us-central1-a.gke.goog", "allowExternalTraffic": True}}


@pytest.mark.parametrize(
    ("raw", "way"),
    [
        ({"endpoint": "192.0.2.1", "masterAuth": {"clusterCaCertificate": CA}}, ("192.0.2.1", "certificate")),
        (
            {
                "endpoint": "192.0.2.1",
                "masterAuth": {"clusterCaCertificate": CA},
                "controlPlaneEndpointsConfig": {**DNS, "ipEndpointsConfig": {"enabled": True}},
            },
            ("192.0.2.1", "certificate"),
        ),
        (
            {
                "endpoint": "192.0.2.1",
                "masterAuth": {"clusterCaCertificate": CA},
                "controlPlaneEndpointsConfig": {**DNS, "ipEndpointsConfig": {"enabled": False}},
            },
            ("gke-1.us-central1-a.gke.goog", ""),
        ),
        ({"controlPlaneEndpointsConfig": DNS}, ("gke-1.us-central1-a.gke.goog", "")),
        (
            {"controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": "x", "allowExternalTraffic": False}}},
            ("", ""),
        ),
        ({}, ("", "")),
        ({"endpoint": "192.0.2.1", "masterAuth": {"clusterCaCertificate": "no base64"}}, ("192.0.2.1", "")),
    ],
)
def test_a_cluster_is_reached_by_address_and_its_ca_else_by_name(raw: dict[str, Any], way: tuple[str, str]) -> None:
    assert _way_in(raw) == way


def test_a_server_by_name_is_verified_by_the_authorities_of_this_machine(gke: ContainerV1, service: GkeService) -> None:
    name = "gke-1.us-central1-a.gke.goog"
    only_by_name = GkeCluster("blueshift", "us-central1-a", has_ip_endpoint=False, dns_endpoint=name)
    gke.add("totoro-project", only_by_name)
    made: Any = service.configuration(service.cluster("totoro-project", "us-central1-a", "blueshift"))
    assert (made.host, made.ssl_ca_cert, made.verify_ssl) == (f"https://{name}", None, True)


def test_what_is_shown_of_a_cluster_has_no_certificate(blueshift: KubeApi, service: GkeService) -> None:
    found = service.cluster("totoro-project", "us-central1-a", "blueshift")
    assert "CERTIFICATE" in found.authority
    assert "CERTIFICATE" not in repr(replace(found))
