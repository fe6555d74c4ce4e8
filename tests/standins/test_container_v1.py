"""What GKE tells of clusters, in its words and by its own discovery document."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import pytest
import requests
from google.oauth2.service_account import Credentials

from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.discovery import Discovery
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import wait_until
from tests.standins.ml_v1 import MlV1

PROJECT = "totoro-project"
ALL = f"v1/projects/{PROJECT}/locations/-/clusters"


@pytest.fixture
def gke() -> Iterator[ContainerV1]:
    with ContainerV1({PROJECT, "other-project"}) as running:
        yield running


@pytest.fixture
def cluster(gke: ContainerV1) -> Iterator[KubeApi]:
    """The API server of the cluster ``training`` in a zone."""
    with KubeApi("1.30", accepts=gke.account.accepts) as running:
        gke.add(PROJECT, GkeCluster("training", "us-central1-a", running))
        yield running


def token_of(key: Path) -> str:
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = Credentials.from_service_account_file(str(key), scopes=scopes)  # type: ignore[no-untyped-call]
    credentials.refresh(google.auth.transport.requests.Request())
    return str(credentials.token)


@pytest.fixture
def client(gke: ContainerV1, tmp_path: Path) -> Any:
    """Asks for a path, with a token."""
    headers = {"Authorization": f"Bearer {token_of(gke.write_key_file(tmp_path / 'key.json'))}"}
    return lambda path: requests.get(gke.url + path, headers=headers, timeout=10)


def error(answer: requests.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == answer.status_code
    return found


def names(answer: requests.Response) -> list[str]:
    return [cluster["name"] for cluster in answer.json().get("clusters", [])]


@pytest.mark.parametrize("place", ["locations", "zones"])
def test_a_cluster_is_found_where_it_is(client: Any, cluster: KubeApi, place: str) -> None:
    told = client(f"v1/projects/{PROJECT}/{place}/us-central1-a/clusters/training").json()
    assert (told["status"], told["location"], told["endpoint"]) == (
        "RUNNING",
        "us-central1-a",
        f"127.0.0.1:{cluster.port}",
    )
    authority = base64.b64decode(told["masterAuth"]["clusterCaCertificate"])
    assert authority == cluster.authority.certificate
    assert told["currentMasterVersion"] == "1.30.1-gke.1000"


def test_what_it_tells_of_a_cluster_takes_one_to_its_jobs(client: Any, cluster: KubeApi, tmp_path: Path) -> None:
    told = client(f"v1/projects/{PROJECT}/locations/us-central1-a/clusters/training").json()
    authority = tmp_path / "ca.pem"
    authority.write_bytes(base64.b64decode(told["masterAuth"]["clusterCaCertificate"]))
    session = requests.Session()
    session.trust_env = False
    url = f"https://{told['endpoint']}/apis/batch/v1/namespaces/default/jobs"
    headers = client(ALL).request.headers
    answer = session.get(url, verify=str(authority), headers={"Authorization": headers["Authorization"]}, timeout=10)
    assert answer.json()["items"] == []


def test_every_answer_is_as_the_discovery_document_says(gke: ContainerV1, client: Any, cluster: KubeApi) -> None:
    gke.add(PROJECT, GkeCluster("broken", "us-east1", None, "ERROR", "no capacity", is_autopilot=True))
    gke.missing_zones.add("asia-east1-a")
    discovery = Discovery("container", "v1")
    one = client(f"v1/projects/{PROJECT}/locations/us-east1/clusters/broken").json()
    for answer, schema in ((client(ALL).json(), "ListClustersResponse"), (one, "Cluster")):
        discovery.check_schema(schema, answer)
    assert (one["status"], one["statusMessage"], one["autopilot"]) == ("ERROR", "no capacity", {"enabled": True})


def test_clusters_of_all_locations_or_of_one_are_listed(gke: ContainerV1, client: Any) -> None:
    for name, location in (("b", "us-central1"), ("a", "us-central1-a"), ("a", "europe-west4")):
        gke.add(PROJECT, GkeCluster(name, location))
    gke.add("other-project", GkeCluster("c", "us-central1"))
    assert names(client(ALL)) == ["a", "b", "a"]
    assert names(client(f"v1/projects/{PROJECT}/locations/us-central1/clusters")) == ["b"]
    assert client("v1/projects/other-project/locations/us-west1/clusters").json() == {}


def test_a_zone_that_does_not_answer_is_said_to_be_missing(gke: ContainerV1, client: Any) -> None:
    gke.add(PROJECT, GkeCluster("a", "us-central1-a"))
    gke.add(PROJECT, GkeCluster("b", "us-central1-b"))
    gke.missing_zones.add("us-central1-b")
    answer = client(ALL)
    assert (names(answer), answer.json()["missingZones"]) == (["a"], ["us-central1-b"])


def test_a_cluster_that_is_being_made_has_no_endpoint(gke: ContainerV1, client: Any) -> None:
    gke.add(PROJECT, GkeCluster("new", "us-central1-a", status="PROVISIONING"))
    (told,) = client(ALL).json()["clusters"]
    assert (told["status"], "endpoint" in told, "masterAuth" in told) == ("PROVISIONING", False, False)


def test_a_cluster_can_be_reached_by_its_dns_endpoint_only(gke: ContainerV1, client: Any, cluster: KubeApi) -> None:
    name = "gke-0123-456.us-central1-a.gke.goog"
    gke.add(PROJECT, GkeCluster("dns", "us-central1-a", cluster, has_ip_endpoint=False, dns_endpoint=name))
    told = client(f"v1/projects/{PROJECT}/locations/us-central1-a/clusters/dns").json()
    by_dns = {"endpoint": name, "allowExternalTraffic": True}
    endpoints: dict[str, Any] = {"dnsEndpointConfig": by_dns, "ipEndpointsConfig": {}}
    assert (told["controlPlaneEndpointsConfig"], "endpoint" in told) == (endpoints, False)


def test_a_cluster_that_there_is_not_is_told_to_be_so(gke: ContainerV1, client: Any) -> None:
    gke.add(PROJECT, GkeCluster("a", "us-central1-a"))
    gke.remove(PROJECT, "us-central1-a", "a")
    for location, place in (("us-central1-a", "zones"), ("us-central1", "locations")):
        refused = error(client(f"v1/projects/{PROJECT}/locations/{location}/clusters/a"))
        words = f"Not found: projects/{PROJECT}/{place}/{location}/clusters/a."
        assert (refused["status"], refused["message"]) == ("NOT_FOUND", words)


@pytest.mark.parametrize("path", [f"v1/projects/{PROJECT}/locations/moon/clusters", f"{ALL}/a"])
def test_a_location_that_there_is_not_is_a_bad_request(client: Any, path: str) -> None:
    assert error(client(path))["status"] == "INVALID_ARGUMENT"


def test_a_project_that_there_is_not_is_forbidden(client: Any) -> None:
    refused = error(client("v1/projects/nobody/locations/-/clusters"))
    assert refused["message"] == "Permission denied on resource project nobody."
    assert refused["details"][0]["reason"] == "CONSUMER_INVALID"


def test_a_project_that_has_not_enabled_the_api_is_told_where_to(gke: ContainerV1, client: Any) -> None:
    gke.disabled_in.add(PROJECT)
    refused = error(client(ALL))
    words = f"Kubernetes Engine API has not been used in project {PROJECT} before or it is disabled."
    assert (refused["code"], refused["message"].startswith(words)) == (403, True)
    assert refused["details"][0]["reason"] == "SERVICE_DISABLED"


@pytest.mark.parametrize(
    ("permission", "path", "resource"),
    [
        ("container.clusters.list", ALL, f"projects/{PROJECT}"),
        (
            "container.clusters.get",
            ALL.replace("/-/", "/us-central1-a/") + "/a",
            f"projects/{PROJECT}/zones/us-central1-a/clusters/a",
        ),
    ],
)
def test_a_permission_that_lacks_is_named(
    gke: ContainerV1, client: Any, permission: str, path: str, resource: str
) -> None:
    gke.forbidden.add(permission)
    refused = error(client(path))
    assert (refused["code"], refused["message"]) == (403, f'Required "{permission}" permission(s) for "{resource}".')


@pytest.mark.parametrize(
    ("path", "code"),
    [(f"{ALL}?pageSize=3", 400), (ALL.replace("clusters", "operations"), 403), ("v2/projects", 404)],
)
def test_what_is_not_served_is_refused(client: Any, path: str, code: int) -> None:
    assert error(client(path))["code"] == code


def test_nobody_is_served_without_a_token(gke: ContainerV1) -> None:
    assert error(requests.get(gke.url + ALL, timeout=5))["status"] == "UNAUTHENTICATED"


def test_two_services_can_know_one_account(tmp_path: Path) -> None:
    with MlV1() as ml, ContainerV1(account=ml.account) as gke:
        headers = {"Authorization": f"Bearer {token_of(gke.write_key_file(tmp_path / 'key.json'))}"}
        for url in (f"{ml.url}v1/projects/{PROJECT}/jobs", gke.url + ALL):
            assert requests.get(url, headers=headers, timeout=5).json() == {}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[str]:
    """The endpoint of a process of its own, whose account's key is in ``key.json``."""
    arguments = ["--port-file", str(tmp_path / "url"), "--key-file", str(tmp_path / "key.json")]
    arguments += ["--cluster", "training@us-central1-a", "--cluster", "spare@europe-west4"]
    command = [sys.executable, "-m", "tests.standins.container_v1", *arguments]
    started = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        wait_until((tmp_path / "url").exists)
        yield (tmp_path / "url").read_text()
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


def test_as_a_process_it_has_an_api_server_for_each_cluster(process: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {token_of(tmp_path / 'key.json')}"}
    clusters = requests.get(process + ALL, headers=headers, timeout=10).json()["clusters"]
    assert [cluster["name"] for cluster in clusters] == ["spare", "training"]
    session = requests.Session()
    session.trust_env = False
    for cluster in clusters:
        authority = tmp_path / f"{cluster['name']}.pem"
        authority.write_bytes(base64.b64decode(cluster["masterAuth"]["clusterCaCertificate"]))
        url = f"https://{cluster['endpoint']}/version"
        assert session.get(url, verify=str(authority), headers=headers, timeout=10).json()["minor"] == "33"
    assert requests.get(f"{process}_standin/state", timeout=5).json()["counts"]["oauth.token"] == 1


def test_requests_are_counted_and_can_fail(gke: ContainerV1, client: Any) -> None:
    gke.faults.add(Fault("container.projects.locations.clusters.list", "status", status=503))
    assert [client(ALL).status_code for _ in range(2)] == [503, 200]
    assert gke.counts == {"oauth.token": 1, "container.projects.locations.clusters.list": 2}
