"""GKE clusters, by container v1: which exist, and how to connect to one.

Source: the discovery document that google-api-python-client ships, ``container.v1.json``, and
https://cloud.google.com/kubernetes-engine/docs/how-to/api-server-authentication.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from caliban.clock import SystemClock
from caliban.errors import PlatformError, UsageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleRefusedError
from caliban.platforms.kubernetes.connection import (
    Connection,
    Credential,
    Credentials,
    bearer,
    is_https,
    is_plain_authority,
)
from caliban.platforms.kubernetes.details import object_at
from caliban.platforms.kubernetes.errors import ClusterMissingError
from caliban.platforms.kubernetes.kubeconfig import malformed_proxy
from caliban.platforms.kubernetes.names import GKE_CLUSTER, GKE_LOCATION, GKE_PROJECT
from caliban.platforms.kubernetes.proxies import proxy_of
from caliban.platforms.stored_json import text
from caliban.records import JsonObject

_ALL_LOCATIONS = "-"
_NOT_RUNNING = frozenset({"PROVISIONING", "STOPPING", "ERROR"})
_LIST_HINT = "list the clusters of project {project} with: gcloud container clusters list --project {project}"


@dataclass(frozen=True)
class GkeCluster:
    """One cluster of a project.

    Attributes:
        project: its project.
        location: its zone (``us-central1-a``) or region (``us-central1``).
        name: its name there.
        status: ``RUNNING``, ``PROVISIONING``, ...
        version: of its control plane.
        nodes: the current number of nodes.
        endpoint: ``HOST`` or ``HOST:PORT`` of the API server; "" where there is none yet.
        ca_certificate: PEM, of the CA of its certificate; "" where that is a public CA.
    """

    project: str
    location: str
    name: str
    status: str
    version: str
    nodes: int
    endpoint: str
    ca_certificate: str = field(repr=False)


@dataclass(frozen=True)
class GkeListing:
    """The clusters of a project.

    Attributes:
        clusters: those that GKE returned.
        missing_zones: zones that did not respond to GKE; they may have more clusters.
    """

    clusters: tuple[GkeCluster, ...]
    missing_zones: tuple[str, ...] = ()


class GkeService:
    """Queries container v1. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a malformed
    credentials file or endpoint.
    """

    def __init__(self, google: Google) -> None:
        self._google = google

    def clusters(self, project: str) -> GkeListing:
        """Return the clusters of a project in all locations."""
        _check_names(project=project)
        request = self._api().list(parent=f"projects/{project}/locations/{_ALL_LOCATIONS}")
        response = self._google.execute(request, f"list the GKE clusters of project {project}")
        found, missing = response.get("clusters"), response.get("missingZones")
        return GkeListing(
            tuple(_parse_cluster(project, each) for each in found) if isinstance(found, list) else (),
            tuple(map(str, missing)) if isinstance(missing, list) else (),
        )

    def cluster(self, project: str, location: str, name: str) -> GkeCluster:
        """Return one cluster.

        Raises:
            PlatformError: ``cluster-not-found``, ``cluster-not-running``.
        """
        _check_names(project=project, location=location, cluster=name)
        request = self._api().get(name=f"projects/{project}/locations/{location}/clusters/{name}")
        try:
            response = self._google.execute(request, f"get the GKE cluster {name} of project {project}")
        except GoogleRefusedError as error:
            if error.code != 404:
                raise
            raise ClusterMissingError(
                "cluster-not-found",
                f"project {project} has no GKE cluster {name} in {location}",
                cause=error.cause,
                hint=_LIST_HINT.format(project=project),
            ) from error
        found = _parse_cluster(project, response)
        if found.status in _NOT_RUNNING or not found.endpoint:
            raise PlatformError(
                "cluster-not-running",
                f"cannot connect to the GKE cluster {name} in {location} of project {project}",
                cause=f"its status is {found.status}" if found.endpoint else f"it has no endpoint ({found.status})",
                hint=_LIST_HINT.format(project=project),
            )
        return found

    def location_of(self, project: str, name: str) -> str:
        """Return the location of the cluster of that name.

        Raises:
            UsageError: ``cluster-not-found``, or ``cluster-ambiguous`` where several have that name.
        """
        listing = self.clusters(project)
        locations = sorted(cluster.location for cluster in listing.clusters if cluster.name == name)
        if len(locations) == 1:
            return locations[0]
        if locations:
            raise UsageError(
                "cluster-ambiguous",
                f"project {project} has several GKE clusters named {name}",
                cause=f"in {', '.join(locations)}",
                hint="choose one of these locations with --zone",
            )
        known = ", ".join(f"{cluster.name} ({cluster.location})" for cluster in listing.clusters)
        missing = ", ".join(listing.missing_zones)
        raise UsageError(
            "cluster-not-found",
            f"project {project} has no GKE cluster {name}" + (" in the zones that responded" if missing else ""),
            cause=f"no response from {missing}" if missing else None,
            hint=f"its clusters are {known}"
            if known
            else "it has no clusters; choose another project with --project_id",
        )

    def connection(self, cluster: GkeCluster) -> Connection:
        """Return how to connect to a cluster: its CA, and an access token that is refreshed before it expires.

        Raises:
            PlatformError: ``malformed-endpoint``: the token would go elsewhere.
        """
        if not _is_endpoint(cluster.endpoint, has_ca=bool(cluster.ca_certificate)):
            raise PlatformError(
                "malformed-endpoint",
                f"cannot connect to the GKE cluster {cluster.name}: its endpoint is not one of GKE",
                cause=f"endpoint: {cluster.endpoint[:200]}",
            )
        server = f"https://{cluster.endpoint}"
        credentials = Credentials(self._credential, SystemClock())
        try:
            proxy = proxy_of(server, os.environ)
        except ValueError as error:
            raise malformed_proxy(error) from error
        return Connection(server, credentials, cluster.ca_certificate or None, proxy=proxy)

    def _credential(self) -> Credential:
        # asked for with each request: Google's client refreshes it
        return Credential(bearer(self._google.access_token()), expires=datetime.min.replace(tzinfo=timezone.utc))

    def _api(self) -> Any:  # noqa: ANN401 - created at run time
        return self._google.resource("container", "v1", "projects", "locations", "clusters")


_PATTERNS = {"project": GKE_PROJECT, "location": GKE_LOCATION, "cluster": GKE_CLUSTER}


def _check_names(**names: str) -> None:
    """Check names before they become a part of a URL.

    Raises:
        UsageError: ``malformed-name``.
    """
    for kind, name in names.items():
        if not _PATTERNS[kind].fullmatch(name):
            shown = json.dumps(name[:100])
            raise UsageError("malformed-name", f"malformed {kind}: {shown}", hint=f"use the ID of the {kind}")


def _is_endpoint(endpoint: str, *, has_ca: bool) -> bool:
    """Return whether an endpoint is a plain host; a name without a CA of its own has to be one of Google's."""
    if not is_https(f"https://{endpoint}") or not is_plain_authority(endpoint):
        return False
    return has_ca or endpoint.lower().partition(":")[0].endswith(".gke.goog")


def _parse_cluster(project: str, raw: object) -> GkeCluster:
    """Read a cluster; what is missing or malformed is empty."""
    found = raw if isinstance(raw, Mapping) else {}
    endpoint, ca_certificate = _endpoint(found)
    nodes = found.get("currentNodeCount")
    return GkeCluster(
        project=project,
        location=text(found, "location") or text(found, "zone") or "",
        name=text(found, "name") or "",
        status=text(found, "status") or "STATUS_UNSPECIFIED",
        version=text(found, "currentMasterVersion") or "",
        nodes=nodes if isinstance(nodes, int) else 0,
        endpoint=endpoint,
        ca_certificate=ca_certificate,
    )


def _endpoint(raw: JsonObject) -> tuple[str, str]:
    """Return endpoint and CA: the IP endpoint, or where that is disabled the DNS endpoint, which has a public CA.

    Source: https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation#dns-based_endpoint
    """
    dns = object_at(raw, "controlPlaneEndpointsConfig", "dnsEndpointConfig")
    ip = text(raw, "endpoint") or ""
    is_enabled = object_at(raw, "controlPlaneEndpointsConfig", "ipEndpointsConfig").get("enabled") is not False
    if not (ip and is_enabled) and dns.get("allowExternalTraffic") and text(dns, "endpoint"):
        return text(dns, "endpoint") or "", ""
    return ip, _decode(object_at(raw, "masterAuth").get("clusterCaCertificate"))


def _decode(value: object) -> str:
    try:
        return base64.b64decode(str(value or ""), validate=True).decode("ascii")
    except ValueError:
        return ""
