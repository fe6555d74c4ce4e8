"""A stand-in for GKE's API (container v1): the clusters of some projects, each of them a stand-in cluster or none.

In a test: ``with ContainerV1() as gke, KubeApi(accepts=gke.account.accepts) as cluster:
gke.add("totoro-project", GkeCluster("training", "us-central1-a", cluster))``; real code gets there by
``CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER`` = ``gke.url``. As a process of its own, with an API server for each
cluster: ``python -m tests.standins.container_v1 --port-file F --key-file K --cluster training@us-central1-a``.

Sources: ``container.v1.json``; https://cloud.google.com/kubernetes-engine/docs/troubleshooting (what it says of a
permission that lacks); https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation (DNS endpoints).
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tests.standins.discovery import ApiError, Method, bad_field
from tests.standins.google_api import GoogleApi, permission_info
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.runners import add_arguments, chosen
from tests.standins.oauth import ServiceAccount
from tests.standins.serving import stop_event

Status = Literal["PROVISIONING", "RUNNING", "RECONCILING", "STOPPING", "ERROR", "DEGRADED"]
_LOCATION = re.compile(r"[a-z]+-[a-z]+[0-9]+(-[a-z])?")


@dataclass(frozen=True)
class GkeCluster:
    """One cluster as GKE knows it.

    Attributes:
        location: a zone, or the region of a cluster that is regional.
        api: where its API server is; None for one that has none yet, or no longer.
        has_ip_endpoint: without it, the API server is reached by ``dns_endpoint`` only.
        dns_endpoint: a host's name below ``gke.goog``; empty where that way is closed.
    """

    name: str
    location: str
    api: KubeApi | None = None
    status: Status = "RUNNING"
    status_message: str = ""
    is_autopilot: bool = False
    has_ip_endpoint: bool = True
    dns_endpoint: str = ""

    @property
    def zones(self) -> list[str]:
        """Where its nodes are."""
        is_zonal = self.location.count("-") == 2
        return [self.location] if is_zonal else [f"{self.location}-{letter}" for letter in "abc"]

    def answer(self, url: str, project: str) -> dict[str, Any]:
        """The cluster as the API tells it."""
        place = "zones" if self.location.count("-") == 2 else "locations"
        version = f"{self.api.version}.1-gke.1000" if self.api is not None else "1.33.1-gke.1000"
        told: dict[str, Any] = {
            "name": self.name,
            "location": self.location,
            "zone": self.location,
            "locations": self.zones,
            "status": self.status,
            "statusMessage": self.status_message,
            "currentMasterVersion": version,
            "autopilot": {"enabled": True} if self.is_autopilot else {},
            "selfLink": f"{url}v1/projects/{project}/{place}/{self.location}/clusters/{self.name}",
            "controlPlaneEndpointsConfig": self._endpoints(),
        }
        if self.api is not None:
            told["masterAuth"] = {"clusterCaCertificate": self.api.certificate_authority}
            if self.has_ip_endpoint:
                told["endpoint"] = f"127.0.0.1:{self.api.port}"
        # proto3's JSON leaves out what is empty, or false.
        return {name: value for name, value in told.items() if value not in ("", {}, [])}

    def _endpoints(self) -> dict[str, Any]:
        by_dns = {"endpoint": self.dns_endpoint, "allowExternalTraffic": True} if self.dns_endpoint else {}
        return {"dnsEndpointConfig": by_dns, "ipEndpointsConfig": {"enabled": True} if self.has_ip_endpoint else {}}


class ContainerV1(GoogleApi):
    """The service.

    Attributes:
        disabled_in: projects that have not enabled the API.
        missing_zones: zones that do not answer, so that a list lacks their clusters and says so.
    """

    api, version = "container", "v1"
    served: ClassVar = {
        f"container.projects.{place}.clusters.{verb}": f"container.clusters.{verb}"
        for place in ("locations", "zones")
        for verb in ("get", "list")
    }

    def __init__(
        self,
        projects: Collection[str] = ("totoro-project",),
        *,
        token_life_s: int = 3600,
        account: ServiceAccount | None = None,
    ) -> None:
        super().__init__(projects, token_life_s=token_life_s, account=account)
        self.disabled_in: set[str] = set()
        self.missing_zones: set[str] = set()
        self._clusters: dict[tuple[str, str, str], GkeCluster] = {}

    def add(self, project: str, cluster: GkeCluster) -> None:
        """Let there be a cluster, in place of one of its name and location."""
        self._clusters[project, cluster.location, cluster.name] = cluster

    def remove(self, project: str, location: str, name: str) -> None:
        """Let a cluster be gone."""
        del self._clusters[project, location, name]

    def check_project(self, method: Method) -> None:
        project = _project(method)
        if project not in self.projects:
            info = {"reason": "CONSUMER_INVALID", "domain": "googleapis.com"}
            raise ApiError(
                403,
                f"Permission denied on resource project {project}.",
                details=[_error_info(info, {"service": "container.googleapis.com", "consumer": f"projects/{project}"})],
            )
        if project in self.disabled_in:
            page = f"https://console.developers.google.com/apis/api/container.googleapis.com/overview?project={project}"
            info = {"reason": "SERVICE_DISABLED", "domain": "googleapis.com"}
            raise ApiError(
                403,
                f"Kubernetes Engine API has not been used in project {project} before or it is disabled. Enable it by "
                f"visiting {page} then retry. If you enabled this API recently, wait a few minutes for the action to "
                "propagate to our systems and retry.",
                details=[_error_info(info, {"service": "container.googleapis.com", "consumer": f"projects/{project}"})],
            )

    def denied(self, permission: str, method: Method) -> ApiError:
        place = f"projects/{_project(method)}"
        if permission.endswith(".get"):
            place += f"/{_place(_location(method))}/{_location(method)}/clusters/{_name(method)}"
        message = f'Required "{permission}" permission(s) for "{place}".'
        return ApiError(403, message, details=[permission_info(permission, place)])

    def serve(self, method: Method, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        project, location = _project(method), _location(method)
        is_list = method.id.endswith(".list")
        if not (is_list and location == "-") and not _LOCATION.fullmatch(location):
            raise bad_field("location", f'Location "{location}" does not exist.')
        if is_list:
            return self._list(project, location)
        key = (project, location, _name(method))
        if key not in self._clusters:
            resource = f"projects/{project}/{_place(location)}/{location}/clusters/{key[2]}"
            raise ApiError(404, f"Not found: {resource}.")
        return self._clusters[key].answer(self.url, project)

    def _list(self, project: str, location: str) -> dict[str, Any]:
        mine = [cluster for (owner, _, _), cluster in sorted(self._clusters.items()) if owner == project]
        here = [cluster for cluster in mine if location in ("-", cluster.location)]
        reached = [cluster for cluster in here if not self.missing_zones & set(cluster.zones)]
        told = {
            "clusters": [cluster.answer(self.url, project) for cluster in reached],
            "missingZones": sorted(self.missing_zones),
        }
        return {name: value for name, value in told.items() if value}

    def control(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """``GET /_standin/state``: ``{"counts": {method: n}}``."""
        return {"counts": dict(self.counts)}


def _project(method: Method) -> str:
    """The older paths, with zones, name their parts in the singular."""
    return method.path.get("projectsId") or method.path["projectId"]


def _location(method: Method) -> str:
    return method.path.get("locationsId") or method.path["zone"]


def _name(method: Method) -> str:
    return method.path.get("clustersId") or method.path["clusterId"]


def _place(location: str) -> str:
    return "zones" if location.count("-") == 2 else "locations"


def _error_info(info: Mapping[str, str], metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info, "metadata": dict(metadata)}


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.standins.container_v1", description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="the endpoint's URL is written here, last of all")
    parser.add_argument("--key-file", type=Path, required=True, help="the service account's key is written here")
    parser.add_argument("--project", default="totoro-project", help="the project of the clusters")
    parser.add_argument("--cluster", action="append", default=[], help="NAME@LOCATION; may be repeated")
    add_arguments(parser)
    given = parser.parse_args()
    over = stop_event()
    with ContainerV1({given.project}) as gke, ExitStack() as clusters:
        for text in given.cluster:
            name, _, location = text.partition("@")
            api = KubeApi(accepts=gke.account.accepts, runner=chosen(given, os.environ))
            gke.add(given.project, GkeCluster(name, location, clusters.enter_context(api)))
        gke.write_key_file(given.key_file)
        part = given.port_file.with_suffix(".part")
        part.write_text(gke.url)
        part.replace(given.port_file)
        over.wait()


if __name__ == "__main__":
    main()
