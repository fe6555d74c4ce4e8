"""Access to Google's APIs: credentials, project, endpoints and API clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from caliban.clock import Clock
from caliban.errors import UsageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.credentials import CredentialsLoader
from caliban.platforms.google.endpoints import api_endpoint
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.google.projects import ProjectChoice, choice_line, googles_project, named_project
from caliban.platforms.google.token_errors import kind_of
from caliban.platforms.google.tokens import RefreshingCredentials
from caliban.platforms.google.transport import ApiRequest, Transport, execute_once
from caliban.platforms.retry import DEFAULT, RetryPolicy, report_retry, with_retries
from caliban.records import JsonObject
from caliban.redaction import clean_text

_T = TypeVar("_T")

PAGE_SIZE = 100
"""Jobs on one page of a list: the maximum of the training services."""


class Google:
    """One user's access to Google's APIs. Reads, imports and connects to nothing before that is needed.

    May be shared by threads.
    """

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        self.retry_policy = retry_policy or DEFAULT
        self.on_retry = report_retry(context.announce)
        self._context = context
        self._loader = CredentialsLoader(context, self.retry_policy)
        self._lock = threading.RLock()
        self._credentials: RefreshingCredentials | None = None
        self._resources: dict[tuple[str, ...], Any] = {}

    @property
    def clock(self) -> Clock:
        """The time, and waiting."""
        return self._context.clock

    def project(self) -> str:
        """Return ``--project_id``, or ``$PROJECT_ID``, or the project that google-auth would use.

        That is ``$GOOGLE_CLOUD_PROJECT``, the key file's, or that of the default credentials. A line says which one is
        used, unless it is obvious.

        Raises:
            UsageError: ``no-project``, ``project-malformed``; or the key file cannot be used, see :meth:`credentials`.
            CredentialsError: ``no-credentials``, ``credentials-refused``, ``credentials-unavailable``.
            GoogleUnreachableError: the credentials are of a workload, and Google's token services do not answer.
        """
        environ = self._context.environ
        found, other = named_project(self._context.options, environ), None
        if found is None:
            found = self._loader.key_project() or self._credentials_project()
        elif found.source != "--project_id":
            googles = googles_project(environ)
            is_other = googles is not None and googles.source != found.source
            other = googles if is_other else self._loader.key_project_if_readable()
        if found is None:
            raise self._no_project()
        checked = PROJECT.check_given(found.id)
        line = choice_line(found, other)
        if line:
            self._context.announce(line)
        return checked

    def _credentials_project(self) -> ProjectChoice | None:
        credentials = self.credentials()
        if kind_of(credentials.credentials) == "external":
            self.access_token()  # its project is asked for with it
        return self._with_retries(lambda: self._loader.default_project(credentials.credentials))

    def _no_project(self) -> UsageError:
        quota_project = self._loader.quota_project()
        hint = "add --project_id PROJECT_ID, or set PROJECT_ID"
        if kind_of(self.credentials().credentials) == "external":
            hint += "; or let the workload see the project of its pool (permission resourcemanager.projects.get)"
        if quota_project:
            hint += f"; the quota project of the credentials is {clean_text(quota_project)}"
        return UsageError(
            "no-project",
            "no Google Cloud project specified",
            cause="neither --project_id nor $PROJECT_ID is set, and the credentials belong to no project",
            hint=hint,
        )

    def key_file(self) -> Path | None:
        """Return ``--cloud_key``, or ``$GOOGLE_APPLICATION_CREDENTIALS``, or None."""
        return self._loader.key_file()

    def credentials(self) -> RefreshingCredentials:
        """Return the credentials of the key file, or else the application default credentials; created once.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
            CredentialsError: ``no-credentials``.
        """
        with self._lock:
            if self._credentials is None:
                self._credentials = RefreshingCredentials(
                    self._loader.load(), self.retry_policy, self.clock, self._context.announce
                )
            return self._credentials

    def access_token(self) -> str:
        """Return a token that is valid for some minutes; a Google registry takes it as password of `oauth2accesstoken`.

        Raises:
            UsageError, CredentialsError: see :meth:`credentials`, and ``credentials-refused``.
            GoogleUnreachableError: the token endpoint cannot be reached.
        """
        return self._with_retries(lambda: self.credentials().apply({}))

    def resource(self, api: str, version: str, *path: str, region: str | None = None) -> Any:  # noqa: ANN401  # created at run time
        """Return a part of an API client (google-api-python-client), created once.

        Its requests may be executed on any thread. The API's description is part of the library, so this needs no
        network. The library makes the methods of all resources on the way; without those, this takes a tenth of the
        time. An endpoint can be set by ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_ML`` (``_AIPLATFORM``, ``_CONTAINER``), as
        for gcloud. The access token is sent to this endpoint and nowhere else.

        Args:
            api: its name in the discovery document: ``ml``.
            version: ``v1``.
            path: of the resource: ``"projects", "locations", "customJobs"``.
            region: of the endpoint ``https://REGION-API.googleapis.com/``, for an API with an endpoint per region.

        Raises:
            UsageError: ``endpoint-malformed``; or the key file cannot be used.
            PlatformError: ``region-malformed``, ``endpoint-of-another-region``.
            CredentialsError: ``no-credentials``.
        """
        key = (api, version, region or "", *path)
        with self._lock:
            if key not in self._resources:
                resource = self._build(api, region, _only(path, api_description(api, version)))
                for name in path:
                    resource = getattr(resource, name)()
                self._resources[key] = resource
            return self._resources[key]

    def _build(self, api: str, region: str | None, description: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
        from googleapiclient.discovery import build_from_document  # type: ignore[import-untyped]

        credentials = self.credentials()
        universe = credentials.credentials.universe_domain
        endpoint = api_endpoint(self._context.environ, api, universe, region)
        user_agent = f"caliban/{metadata.version('caliban')}"
        return build_from_document(
            description,
            http=Transport(credentials, user_agent, endpoint, self.retry_policy, self._context),
            client_options={"universe_domain": universe, "api_endpoint": endpoint.url},
        )

    def execute(self, request: ApiRequest, action: str) -> JsonObject:
        """Send a request that does no harm when it is sent twice, with retries.

        Args:
            request: the request.
            action: see :func:`~caliban.platforms.google.transport.execute_once`.

        Raises:
            GoogleError, CredentialsError: as there, after the last attempt.
        """
        return self._with_retries(lambda: execute_once(request, action))

    def _with_retries(self, call: Callable[[], _T]) -> _T:
        return with_retries(call, self.retry_policy, self.on_retry, self.clock)


@cache
def api_description(api: str, version: str) -> Mapping[str, Any]:
    """Return the discovery document of an API, which google-api-python-client ships; parsed once.

    Its messages have no fields: the library only writes docstrings from them, which takes most of its time.
    """
    from googleapiclient.discovery_cache import get_static_doc  # type: ignore[import-untyped]

    description: dict[str, Any] = json.loads(get_static_doc(api, version))
    return {**description, "schemas": {name: {"id": name, "type": "object"} for name in description["schemas"]}}


def _only(path: Sequence[str], description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the description of an API with only the methods and resources of one resource."""
    if not path:
        return description
    inner = _only(path[1:], description["resources"][path[0]])
    return {**description, "methods": {}, "resources": {path[0]: inner}}
