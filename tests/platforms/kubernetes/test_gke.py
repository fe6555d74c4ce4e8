"""GKE: the recorded cluster is looked up, and connected to with its CA and with tokens that are refreshed."""

from __future__ import annotations

import base64
import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, PlatformError, UsageError
from caliban.platforms.base import RefusedError
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.kubernetes.details import GkeDestination
from caliban.platforms.kubernetes.gke_client import GkeService, _endpoint
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.records import (
    FailureCause,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    StatusUnavailable,
)
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import (
    GKE_DESTINATION,
    IMAGE,
    NAME,
    OUR_LABELS,
    PEER_DETAILS,
    PEER_SPEC,
    QUICK,
    job_record,
    platform_context,
    record_of,
    submission,
)
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS

GET, LIST = "container.projects.locations.clusters.get", "container.projects.locations.clusters.list"
NOT_FOUND = "project totoro-project has no GKE cluster blueshift in us-central1-a"
LIST_HINT = "list the clusters of project totoro-project with: gcloud container clusters list --project totoro-project"


def submit(platform: GkePlatform, destination: GkeDestination = GKE_DESTINATION) -> NewJob:
    return platform.submit(PEER_SPEC, submission(destination=destination), may_send)


def recorded(details: JsonObject = PEER_DETAILS) -> JobRecord:
    return job_record(details, platform="GKE")


def refusal(call: Any) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        call()
    return caught.value


def test_a_job_of_caliban_0_4_2_is_rerun_on_its_recorded_cluster(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    destination = gke_platform.destination(recorded())
    assert replace(destination, cluster_uid="", cluster_server="") == GKE_DESTINATION
    gke_platform.connect(destination)
    new = submit(gke_platform, destination)
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["metadata"]["labels"] = OUR_LABELS
    assert blueshift.bodies("jobs.create") == [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME, "labels": OUR_LABELS}, "spec": spec}
    ]
    there = blueshift.jobs.get(NAME)["metadata"]
    kept = {key: there[key] for key in ("name", "namespace", "uid", "creationTimestamp", "labels")}
    stored = {"cluster_name": "blueshift", "cluster_zone": "us-central1-a", "project_id": "totoro-project"}
    assert (new.container, new.details.raw) == (
        IMAGE,
        {
            **destination.to_details(),
            **stored,
            "container": "job-stop-test",
            "job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": kept},
        },
    )


def test_the_cluster_is_looked_up_once_in_its_recorded_location(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    new = submit(gke_platform)
    gke_platform.statuses([record_of(new, platform="GKE")])
    paths = [received.path for received in gke.requests if received.method != "oauth.token"]
    assert paths == ["/v1/projects/totoro-project/locations/us-central1-a/clusters/blueshift"]
    assert (gke.counts["oauth.token"], blueshift.counts["jobs.create"], blueshift.counts["jobs.list"]) == (1, 1, 1)


def test_a_job_of_caliban_0_4_2_is_found_by_its_recorded_name_and_uid(
    blueshift: KubeApi, gke_platform: GkePlatform
) -> None:
    metadata = PEER_DETAILS["job"]["metadata"]
    name = metadata["name"]
    gke_platform.submit(PEER_SPEC, submission(name, destination=GKE_DESTINATION), may_send)
    with blueshift.state.change(JOBS, "default", name) as there:
        there["metadata"].update(uid=metadata["uid"], labels={})
    for _ in range(5):
        blueshift.jobs.fail(name, 3)
    update = gke_platform.statuses([recorded()])[7]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.exit == JobExit(3, FailureCause.CODE_ERROR, "exit code 3")
    assert {key: update.details.raw[key] for key in PEER_DETAILS} == PEER_DETAILS


def test_a_rerun_stays_on_its_cluster_despite_another_project_and_reports_it_once(
    blueshift: KubeApi, gke: ContainerV1, key: Path, reporter: RecordingReporter
) -> None:
    context = platform_context(gke=gke, cloud_key=key, project_id="zoo-project", reporter=reporter)
    platform = GkePlatform(context, QUICK)
    assert {platform.destination(recorded()).project for _ in range(2)} == {"totoro-project"}
    assert reporter.lines == [
        "jobs of the GKE cluster blueshift are re-run in its project totoro-project, not in zoo-project"
    ]


@pytest.mark.parametrize("missing", ["cluster_name", "cluster_zone", "project_id", "job"])
def test_a_job_with_an_incomplete_destination_cannot_be_rerun(gke_platform: GkePlatform, missing: str) -> None:
    details = {name: value for name, value in PEER_DETAILS.items() if name != missing}
    error = refusal(lambda: gke_platform.destination(recorded(details)))
    assert (error.id, error.message) == ("malformed-job-details", "cannot determine where job 7 ran")


def test_an_experiment_without_a_job_has_no_cluster(gke_platform: GkePlatform) -> None:
    error = refusal(lambda: gke_platform.destination(None))
    assert (error.id, error.message) == ("malformed-job-details", "no cluster is selected")


def test_a_deleted_cluster_is_a_refusal_that_names_its_location(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert (error.id, error.message, error.hint) == (
        "cluster-not-found",
        NOT_FOUND,
        LIST_HINT,
    )
    assert "Not found: projects/totoro-project/zones/us-central1-a/clusters/blueshift." in str(error.cause)
    assert error.details["cluster_name"] == "blueshift"


def test_a_deleted_cluster_changes_no_state_while_others_are_refreshed(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    with KubeApi(accepts=gke.account.accepts) as other:
        gke.add("zoo-project", GkeCluster("lions", "europe-west4", other))
        new = submit(gke_platform, GkeDestination("zoo-project", "europe-west4", "lions", namespace="default"))
        gke.remove("totoro-project", "us-central1-a", "blueshift")
        found = gke_platform.statuses([recorded(), record_of(new, id=8, platform="GKE")])
    assert found[8] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[7], StatusUnavailable)
    assert found[7].reason.startswith(NOT_FOUND)


@pytest.mark.parametrize("status", ["PROVISIONING", "STOPPING", "ERROR"])
def test_a_cluster_that_does_not_run_is_refused_with_its_status(
    gke: ContainerV1, gke_platform: GkePlatform, cluster: KubeApi, status: Any
) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster, status=status))
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert isinstance(error, PlatformError)
    assert (error.id, error.message, error.cause) == (
        "cluster-not-running",
        "cannot connect to the GKE cluster blueshift in us-central1-a of project totoro-project",
        f"its status is {status}",
    )
    assert cluster.requests == []


@pytest.mark.parametrize("status", ["RECONCILING", "DEGRADED"])
def test_a_cluster_that_is_being_repaired_is_connected_to(
    gke: ContainerV1, gke_platform: GkePlatform, status: Any
) -> None:
    with KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster, status=status))
        gke_platform.connect(GKE_DESTINATION)
        assert cluster.counts["namespaces.get"] == 1


def test_a_cluster_without_an_endpoint_is_refused(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert (error.id, error.cause) == ("cluster-not-running", "it has no endpoint (RUNNING)")


def test_a_cluster_that_may_not_be_read_is_a_refusal_with_google_s_message(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    gke.forbidden.add("container.clusters.get")
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert error.id == "google-permission-denied"
    assert 'Required "container.clusters.get" permission(s)' in str(error.cause)
    assert blueshift.requests == []


def test_an_api_that_is_not_enabled_is_an_error_with_google_s_message(
    gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    gke.disabled_in.add("totoro-project")
    error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert "Kubernetes Engine API has not been used in project totoro-project" in str(error.cause)


def test_a_server_with_an_untrusted_certificate_gets_no_token(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    with KubeApi() as impostor, KubeApi() as real:
        impostor_of = copy.copy(impostor)
        impostor_of.authority = real.authority
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", impostor_of))
        error = refusal(lambda: submit(gke_platform))
        assert impostor.requests == []
    assert isinstance(error, RefusedError)
    assert "certificate verify failed" in str(error.cause)


def test_an_expired_token_is_never_sent(tmp_path: Path) -> None:
    with ContainerV1(token_life_s=1) as gke, KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        key = gke.write_key_file(tmp_path / "key.json")
        platform = GkePlatform(platform_context(gke=gke, cloud_key=key), QUICK)
        new = submit(platform)
        assert platform.statuses([record_of(new, platform="GKE")]) == {7: JobUpdate(JobStatus.SUBMITTED)}
        assert gke.counts["oauth.token"] > 1


def test_credentials_that_google_rejects_are_a_refusal_since_nothing_was_sent(
    gke: ContainerV1, gke_platform: GkePlatform, blueshift: KubeApi
) -> None:
    gke.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    error = refusal(lambda: submit(gke_platform))
    assert isinstance(error, RefusedError)
    assert (error.cause, blueshift.requests) == ("invalid_grant: Token has been expired or revoked.", [])


def test_a_google_token_that_the_cluster_rejects_is_an_error(gke: ContainerV1, gke_platform: GkePlatform) -> None:
    with KubeApi() as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        error = refusal(lambda: gke_platform.connect(GKE_DESTINATION))
    assert error.id == "kubernetes-not-authenticated"


@pytest.mark.slow
def test_many_threads_submit_with_one_lookup_of_the_cluster(
    blueshift: KubeApi, gke: ContainerV1, gke_platform: GkePlatform
) -> None:
    def send(number: int) -> None:
        token = f"{number:016x}"
        gke_platform.submit(PEER_SPEC, submission(f"job-{number}", token, GKE_DESTINATION), may_send)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (gke.counts[GET], gke.counts["oauth.token"], blueshift.counts["jobs.create"]) == (1, 1, 12)


def test_a_lost_response_makes_no_second_job(blueshift: KubeApi, gke_platform: GkePlatform) -> None:
    blueshift.faults.add(Fault("jobs.create", "drop"))
    submit(gke_platform)
    assert [job["metadata"]["name"] for job in blueshift.state.items(JOBS)] == [NAME]


def test_a_failing_google_api_changes_no_state(blueshift: KubeApi, gke: ContainerV1, key: Path) -> None:
    gke.faults.add(Fault("*", "status", times=1000))
    platform = GkePlatform(platform_context(gke=gke, cloud_key=key), QUICK)
    assert isinstance(platform.statuses([recorded()])[7], StatusUnavailable)


def test_the_links_of_a_job_are_a_page_and_a_command(gke_platform: GkePlatform) -> None:
    assert gke_platform.links(recorded()) == (
        "https://console.cloud.google.com/kubernetes/job/us-central1-a/blueshift/default/job-stop-test-rssqq/details"
        "?project=totoro-project",
        "kubectl --context gke_totoro-project_us-central1-a_blueshift --namespace default logs --follow "
        "job/job-stop-test-rssqq",
    )


@pytest.fixture
def service(gke_platform: GkePlatform) -> GkeService:
    return GkeService(gke_platform.google)


def test_the_location_of_a_cluster_is_found_by_its_name(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    gke.add("totoro-project", GkeCluster("other", "europe-west4"))
    assert service.location_of("totoro-project", "blueshift") == "us-central1-a"
    assert gke.counts[LIST] == 1


def test_an_ambiguous_cluster_name_is_refused_with_the_locations(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "europe-west4"))
    error = refusal(lambda: service.location_of("totoro-project", "blueshift"))
    assert isinstance(error, UsageError)
    assert (error.id, error.cause, error.hint) == (
        "cluster-ambiguous",
        "in europe-west4, us-central1-a",
        "choose one of these locations with --zone",
    )


def test_an_unknown_cluster_name_is_refused_with_the_existing_clusters(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    error = refusal(lambda: service.location_of("totoro-project", "redshift"))
    assert (error.id, error.message, error.hint) == (
        "cluster-not-found",
        "project totoro-project has no GKE cluster redshift",
        "its clusters are blueshift (us-central1-a)",
    )


def test_zones_that_did_not_respond_are_named_if_a_cluster_is_not_found(
    gke: ContainerV1, blueshift: KubeApi, service: GkeService
) -> None:
    gke.missing_zones.add("us-central1-a")
    error = refusal(lambda: service.location_of("totoro-project", "blueshift"))
    assert (error.message, error.cause) == (
        "project totoro-project has no GKE cluster blueshift in the zones that responded",
        "no response from us-central1-a",
    )


def test_a_project_without_clusters_is_an_error(service: GkeService) -> None:
    error = refusal(lambda: service.location_of("zoo-project", "lions"))
    assert error.hint == "it has no clusters; choose another project with --project_id"


def test_a_project_that_may_not_be_read_is_an_error(service: GkeService) -> None:
    error = refusal(lambda: service.clusters("strange-project"))
    assert isinstance(error, GoogleError)
    assert error.cause is not None
    assert error.cause.startswith("Permission denied on resource project strange-project.")


CA = base64.b64encode(b"certificate").decode()
DNS = {"dnsEndpointConfig": {"endpoint": "gke-1.us-central1-a.gke.goog", "allowExternalTraffic": True}}


@pytest.mark.parametrize(
    ("raw", "expected"),
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
def test_the_ip_endpoint_is_preferred_to_the_dns_endpoint(raw: dict[str, Any], expected: tuple[str, str]) -> None:
    assert _endpoint(raw) == expected


def test_a_dns_endpoint_is_verified_with_the_public_cas(gke: ContainerV1, service: GkeService) -> None:
    name = "gke-1.us-central1-a.gke.goog"
    dns_only = GkeCluster("blueshift", "us-central1-a", has_ip_endpoint=False, dns_endpoint=name)
    gke.add("totoro-project", dns_only)
    made = service.connection(service.cluster("totoro-project", "us-central1-a", "blueshift"))
    assert (made.server, made.authority) == (f"https://{name}", None)


def test_the_repr_of_a_cluster_has_no_certificate(blueshift: KubeApi, service: GkeService) -> None:
    found = service.cluster("totoro-project", "us-central1-a", "blueshift")
    assert "CERTIFICATE" in found.ca_certificate
    assert "CERTIFICATE" not in repr(replace(found))


@pytest.mark.parametrize(
    ("endpoint", "ca"),
    [
        ("evil.example.com", ""),
        ("gke-1.us-central1-a.gke.goog.evil.example.com", ""),
        ("evil.example.com/gke-1.gke.goog", ""),
        ("gke-1.gke.goog@evil.example.com", ""),
        ("192.0.2.1:443@evil.example.com", "ca"),
        ("192.0.2.1/x?y", "ca"),
        ("192.0.2.1#x", "ca"),
        ("192.0.2.1\\evil.example.com", "ca"),
        ("192.0.2.1 evil.example.com", "ca"),
        ("192.0.2.1\nevil.example.com", "ca"),
        ("192.0.2.1:99999", "ca"),
        ("[::1", "ca"),
        ("", "ca"),
    ],
)
def test_an_access_token_is_not_sent_to_an_endpoint_that_is_not_one_of_gke(
    gke: ContainerV1, service: GkeService, endpoint: str, ca: str
) -> None:
    cluster = found_cluster(endpoint, ca)
    error = refusal(lambda: service.connection(cluster))
    assert error.id == "malformed-endpoint"
    assert gke.counts["oauth.token"] == 0


@pytest.mark.parametrize(
    ("endpoint", "ca"),
    [("34.1.2.3", "ca"), ("34.1.2.3:443", "ca"), ("[2600::1]", "ca"), ("gke-1.us-central1-a.gke.goog", "")],
)
def test_endpoints_of_gke_are_accepted(service: GkeService, endpoint: str, ca: str) -> None:
    assert service.connection(found_cluster(endpoint, ca)).server == f"https://{endpoint}"


def found_cluster(endpoint: str, ca: str) -> Any:
    from caliban.platforms.kubernetes.gke_client import GkeCluster as Found

    return Found("totoro-project", "us-central1-a", "blueshift", "RUNNING", "1.33", 1, endpoint, ca)


@pytest.mark.parametrize(
    ("project", "location", "name"),
    [
        ("totoro-project", "us-central1-a/../..", "blueshift"),
        ("totoro-project", "evil.example.com:80/x?", "blueshift"),
        ("totoro-project", "us-central1-a", "../../x"),
        ("totoro-project", "us-central1-a", "a?b"),
        ("totoro/project", "us-central1-a", "blueshift"),
        ("projects/totoro-project", "us-central1-a", "blueshift"),
        ("", "us-central1-a", "blueshift"),
        ("..", "us-central1-a", "blueshift"),
    ],
)
def test_a_malformed_name_is_not_sent(
    gke: ContainerV1, service: GkeService, project: str, location: str, name: str
) -> None:
    assert refusal(lambda: service.cluster(project, location, name)).id == "malformed-name"
    assert gke.requests == []


@pytest.mark.parametrize(
    "raw",
    [
        {},
        [],
        "x",
        {"name": 5, "status": [], "endpoint": {}, "currentNodeCount": "many", "masterAuth": []},
        {"masterAuth": {"clusterCaCertificate": "\u00e9"}, "controlPlaneEndpointsConfig": 5},
    ],
)
def test_an_odd_cluster_in_an_answer_is_read(raw: object) -> None:
    from caliban.platforms.kubernetes.gke_client import _parse_cluster

    assert _parse_cluster("totoro-project", raw).endpoint == ""
