"""Where requests with Google credentials may go: Google's hosts, and the endpoint that the user set.

A credential is attached only to a request whose URL has the scheme, host and port of such an endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from caliban.errors import PlatformError, UsageError
from caliban.platforms.google.identifiers import REGION, UNIVERSE
from caliban.urls import is_confidential, is_loopback, origin, split_url

GOOGLE_DOMAIN = "googleapis.com"
_ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
_METADATA_HOSTS = frozenset({"metadata.google.internal", "169.254.169.254", "fd00:ec2::254", "fd20:ce::254"})
"""Sources: https://cloud.google.com/compute/docs/metadata/querying-metadata, and those of AWS and Azure, where
workloads get tokens (https://cloud.google.com/iam/docs/workload-identity-federation)."""
_LOGIN_HOSTS = frozenset({"accounts.google.com"})
_REGIONAL_HOST = re.compile(rf"({REGION.pattern})-[a-z]+\.")


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of one API.

    Attributes:
        url: ``https://HOST/``, with a slash at its end.
    """

    url: str

    def check(self, uri: str) -> None:
        """Check that a request belongs to this endpoint, before a credential is attached to it.

        Raises:
            PlatformError: ``endpoint-not-allowed``.
        """
        if origin(uri) is None or origin(uri) != origin(self.url):
            raise PlatformError(
                "endpoint-not-allowed",
                "the request was not sent: it would have carried an access token to another host",
                cause=f"expected a URL below {self.url}",
            )


def api_endpoint(environ: Mapping[str, str], api: str, universe: str, region: str | None) -> Endpoint:
    """Return the endpoint of an API: the override of the environment, else Google's.

    Args:
        environ: the environment variables.
        api: its name in the discovery document: ``aiplatform``.
        universe: ``googleapis.com``, or the domain of the credentials' universe.
        region: for an API with an endpoint per region: ``us-central1``.

    Raises:
        UsageError: ``endpoint-malformed``.
        PlatformError: ``region-malformed``; ``endpoint-of-another-region``: the override is that of another region,
            which does not have the jobs of this one.
    """
    if region is not None:
        REGION.check(region)
    override = endpoint_override(environ, api)
    if override is None:
        UNIVERSE.check_given(universe)
        return Endpoint(f"https://{region}-{api}.{universe}/" if region else f"https://{api}.{universe}/")
    other = _REGIONAL_HOST.match(urlsplit(override).hostname or "")
    if region is not None and other is not None and other[1] != region:
        raise PlatformError(
            "endpoint-of-another-region",
            f"cannot reach the region {region}: ${_ENDPOINT_VARIABLE}{api.upper()} is the endpoint of {other[1]}",
            hint=f"unset {_ENDPOINT_VARIABLE}{api.upper()}",
        )
    return Endpoint(override)


def endpoint_override(environ: Mapping[str, str], api: str) -> str | None:
    """Return the endpoint of ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_<API>`` with a slash at its end; None where unset.

    Source: https://cloud.google.com/sdk/gcloud/reference/topic/configurations, section api_endpoint_overrides.

    Raises:
        UsageError: ``endpoint-malformed``: it is not an https URL, nor an http URL of this machine.
    """
    variable = _ENDPOINT_VARIABLE + api.upper()
    endpoint = environ.get(variable)
    if not endpoint:
        return None
    parts, expected = split_url(endpoint), "an http or https URL"
    if parts is None or parts.query or parts.fragment or not is_confidential(parts):
        if parts is not None:
            expected = "an https URL without a query, or an http URL of this machine"
        raise UsageError(
            "endpoint-malformed",
            f"${variable} is not an endpoint",
            cause=f'expected {expected}, got "{_without_login(endpoint)}"',
            hint=f"example: https://us-central1-{api}.{GOOGLE_DOMAIN}/",
        )
    return endpoint.rstrip("/") + "/"


def check_logging_endpoint(environ: Mapping[str, str], api: str) -> None:
    """Check that the logs of an API's jobs are where they are looked for.

    Google has nothing of the jobs of a service on this machine, and must not get the token of that service.

    Args:
        environ: the environment variables.
        api: of the jobs, in the discovery document.

    Raises:
        UsageError: ``endpoint-malformed``.
        PlatformError: ``logging-endpoint-unknown``.
    """
    override = endpoint_override(environ, api)
    is_here = override is not None and is_loopback(urlsplit(override).hostname or "")
    if is_here and endpoint_override(environ, "logging") is None:
        variable = f"{_ENDPOINT_VARIABLE}LOGGING"
        raise PlatformError(
            "logging-endpoint-unknown",
            "the output of jobs cannot be read: no endpoint of Cloud Logging is set",
            cause=f"${_ENDPOINT_VARIABLE}{api.upper()} is a service on this machine",
            hint=f"set {variable}",
        )


def token_endpoint_problem(url: str, universe: str) -> str | None:
    """Return why a login or refresh token must not be sent to ``url``; None where it may.

    It may go to Google, by https, and to this machine.

    Args:
        url: of a credentials file: ``token_uri``.
        universe: the domain of the credentials' universe.
    """
    parts = split_url(url)
    if parts is None or not is_confidential(parts):
        return "is not an https URL"
    host = parts.hostname or ""
    domains = {GOOGLE_DOMAIN, universe} if UNIVERSE.is_valid(universe) else {GOOGLE_DOMAIN}
    is_google = host in _LOGIN_HOSTS or any(host.endswith(f".{domain}") for domain in domains)
    return None if is_google or is_loopback(host) else f"is not a URL of {' or '.join(sorted(domains))}"


def may_carry_credentials(url: str) -> bool:
    """Return whether a credential may be sent to ``url``, and one of its answer be used.

    By https; or by http on this machine, or to the metadata server of a cloud, which is not reached by a network.
    """
    parts = split_url(url)
    return parts is not None and (is_confidential(parts) or (parts.hostname or "") in _METADATA_HOSTS)


def _without_login(url: str) -> str:
    return re.sub(r"//.*@", "//", url)
