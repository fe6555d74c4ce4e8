"""GKE's clusters, by container v1: which there are, and how to reach one.

Source: the discovery document that google-api-python-client ships, ``container.v1.json``, and
https://cloud.google.com/kubernetes-engine/docs/how-to/api-server-authentication.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caliban.errors import PlatformError, UsageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleRefusedError
from caliban.records import JsonObject

if TYPE_CHECKING:
    from kubernetes.client import Configuration

ANYWHERE = "-"
_NOT_REACHABLE = frozenset({"PROVISIONING", "STOPPING", "ERROR"})
_LISTING_HINT = "`caliban cluster ls --project_id {project}` shows the clusters that there are"


@dataclass(frozen=True)
class GkeCluster:
    """One cluster of a project.

    Attributes:
        project: its project.
        location: its zone (``us-central1-a``) or region (``us-central1``).
        name: its name there.
        status: ``RUNNING``, ``PROVISIONING``, ...
        version: of its control plane.
        nodes: how many there are now.
        endpoint: ``HOST`` or ``HOST:PORT`` of the API server; "" where there is none yet.
        authority: the PEM certificate that has signed the server's; "" for those that everybody trusts.
    """

    project: str
    location: str
    name: str
    status: str
    version: str
    nodes: int
    endpoint: str
    authority: str = field(repr=False)


@dataclass(frozen=True)
class GkeListing:
    """The clusters of a project.

    Attributes:
        clusters: those that were told of.
        silent_zones: the zones that did not answer GKE; there may be more clusters in them.
    """

    clusters: tuple[GkeCluster, ...]
    silent_zones: tuple[str, ...] = ()


class GkeService:
    """The two calls of container v1 that are made. May be shared by threads.

    Every method raises :class:`~caliban.platforms.google.errors.GoogleError` or
    :class:`~caliban.platforms.google.errors.CredentialsError`, or :class:`~caliban.errors.UsageError` for a credentials
    file or endpoint that is of no use.
    """

    def __init__(self, google: Google) -> None:
        self._google = google

    def clusters(self, project: str) -> GkeListing:
        """The clusters of a project, wherever they are."""
        request = self._api().list(parent=f"projects/{project}/locations/{ANYWHERE}")
        answer = self._google.execute(request, f"list the GKE clusters of project {project}")
        found, silent = answer.get("clusters"), answer.get("missingZones")
        return GkeListing(
            tuple(_cluster(project, each) for each in found) if isinstance(found, list) else (),
            tuple(map(str, silent)) if isinstance(silent, list) else (),
        )

    def cluster(self, project: str, location: str, name: str) -> GkeCluster:
        """One cluster.

        Raises:
            PlatformError: ``cluster-not-found``, ``cluster-not-running``.
        """
        request = self._api().get(name=f"projects/{project}/locations/{location}/clusters/{name}")
        try:
            found = _cluster(project, self._google.execute(request, f"ask project {project} after its cluster {name}"))
        except GoogleRefusedError as error:
            if error.code != 404:
                raise
            raise PlatformError(
                "cluster-not-found",
                f"there is no GKE cluster {name} in {location} of project {project}",
                cause=error.cause,
                hint=_LISTING_HINT.format(project=project),
            ) from error
        if found.status in _NOT_REACHABLE or not found.endpoint:
            raise PlatformError(
                "cluster-not-running",
                f"the GKE cluster {name} in {location} of project {project} cannot be reached",
                cause=f"its status is {found.status}" if found.endpoint else f"it has no endpoint ({found.status})",
                hint=_LISTING_HINT.format(project=project),
            )
        return found

    def location_of(self, project: str, name: str) -> str:
        """Where the cluster of that name is.

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
                f"project {project} has several GKE clusters of the name {name}",
                cause=f"in {', '.join(locations)}",
                hint="name one of these with --zone",
            )
        known = ", ".join(f"{cluster.name} ({cluster.location})" for cluster in listing.clusters)
        silent = ", ".join(listing.silent_zones)
        raise UsageError(
            "cluster-not-found",
            f"project {project} has no GKE cluster {name}" + (" that GKE can tell of" if silent else ""),
            cause=f"these zones do not answer GKE: {silent}" if silent else None,
            hint=f"its clusters are {known}" if known else "it has no clusters; --project_id names another project",
        )

    def configuration(self, cluster: GkeCluster) -> Configuration:
        """How to reach a cluster: its own CA, and an access token that is renewed when it must be."""
        from kubernetes.client import Configuration

        made: Any = Configuration()
        made.host = f"https://{cluster.endpoint}"
        if cluster.authority:
            made.ssl_ca_cert = _as_file(cluster.authority)

        def renew(made: Any) -> None:  # noqa: ANN401  # the client has types in some versions alone
            made.api_key["authorization"] = f"Bearer {self._google.access_token()}"

        renew(made)
        made.refresh_api_key_hook = renew
        configuration: Configuration = made
        return configuration

    def _api(self) -> Any:  # noqa: ANN401  # made at run time
        return self._google.service("container", "v1").projects().locations().clusters()


def _as_file(certificate: str) -> str:
    """The client wants its CA in a file, here one that goes with the process; a certificate is no secret."""
    descriptor, name = tempfile.mkstemp(prefix="caliban-ca-", suffix=".pem")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(certificate)
    atexit.register(Path(name).unlink, missing_ok=True)
    return name


def _cluster(project: str, raw: JsonObject) -> GkeCluster:
    endpoint, authority = _way_in(raw)
    return GkeCluster(
        project=project,
        location=str(raw.get("location") or raw.get("zone") or ""),
        name=str(raw.get("name") or ""),
        status=str(raw.get("status") or "STATUS_UNSPECIFIED"),
        version=str(raw.get("currentMasterVersion") or ""),
        nodes=int(str(raw.get("currentNodeCount") or 0)),
        endpoint=endpoint,
        authority=authority,
    )


def _way_in(raw: JsonObject) -> tuple[str, str]:
    """Endpoint and CA: by address where the cluster has one, else by name, where a public CA signs.

    Source: https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation#dns-based_endpoint
    """
    endpoints = _object(raw, "controlPlaneEndpointsConfig")
    by_name = _object(endpoints, "dnsEndpointConfig")
    by_address = str(raw.get("endpoint") or "")
    if by_address and _object(endpoints, "ipEndpointsConfig").get("enabled") is not False:
        return by_address, _decoded(_object(raw, "masterAuth").get("clusterCaCertificate"))
    if by_name.get("allowExternalTraffic") and by_name.get("endpoint"):
        return str(by_name["endpoint"]), ""
    return by_address, _decoded(_object(raw, "masterAuth").get("clusterCaCertificate"))


def _decoded(value: object) -> str:
    try:
        return base64.b64decode(str(value or ""), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _object(parent: JsonObject, name: str) -> Mapping[str, object]:
    value = parent.get(name)
    return value if isinstance(value, Mapping) else {}
