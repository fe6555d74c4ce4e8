"""Access to Google's APIs: credentials, project, endpoints and API clients."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from caliban.errors import UsageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.flags import cloud_key, project_id
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError, token_failure
from caliban.platforms.google.transport import ApiRequest, RefreshingCredentials, Transport, execute_once
from caliban.platforms.retry import DEFAULT, RetryPolicy, report_retry, with_retries
from caliban.records import JsonObject

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_T = TypeVar("_T")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT_VARIABLE = "PROJECT_ID"

PAGE_SIZE = 100
"""Jobs on one page of a list: the maximum of the training services."""

_ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NEW_KEY = "create a new service account key in the Google Cloud console, and pass it with --cloud_key"


class Google:
    """One user's access to Google's APIs. Reads, imports and connects to nothing before that is needed.

    May be shared by threads.
    """

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        self.retry_policy = retry_policy or DEFAULT
        self.on_retry = report_retry(context.announce)
        self._context = context
        self._lock = threading.RLock()
        self._credentials: RefreshingCredentials | None = None
        self._no_login: CredentialsError | None = None
        self._found_project: str | None = None
        self._resources: dict[tuple[str, ...], Any] = {}

    def project(self) -> str:
        """Return ``--project_id``, or ``$PROJECT_ID``, or the key file's project, or that of the default credentials.

        Raises:
            UsageError: ``no-project``; or the key file cannot be used, see :meth:`credentials`.
            CredentialsError: ``no-credentials``.
        """
        named = project_id(self._context.options) or self._context.environ.get(PROJECT_VARIABLE)
        if named:
            return named
        key = {} if self.key_file() is None else self._key()
        found = _text(key, "project_id") or _text(key, "quota_project_id")
        if found is None:
            self.credentials()
            found = self._found_project
        if not found:
            raise UsageError(
                "no-project",
                "no Google Cloud project specified",
                cause="neither --project_id nor $PROJECT_ID is set, and the credentials belong to no project",
                hint="add --project_id PROJECT_ID, or set PROJECT_ID",
            )
        return found

    def key_file(self) -> Path | None:
        """Return ``--cloud_key``, or ``$GOOGLE_APPLICATION_CREDENTIALS``, or None."""
        named = cloud_key(self._context.options) or self._context.environ.get(KEY_VARIABLE)
        return Path(named) if named else None

    def credentials(self) -> RefreshingCredentials:
        """Return the credentials of the key file, or else the application default credentials; created once.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
            CredentialsError: ``no-credentials``.
        """
        with self._lock:
            if self._credentials is None:
                credentials = self._default_credentials() if self.key_file() is None else self._key_credentials()
                self._credentials = RefreshingCredentials(credentials, self.retry_policy)
            return self._credentials

    def access_token(self) -> str:
        """Return a token that is valid for some minutes; a Google registry takes it as password of `oauth2accesstoken`.

        Raises:
            UsageError, CredentialsError: see :meth:`credentials`, and ``credentials-refused``.
            GoogleUnreachableError: the token endpoint cannot be reached.
        """
        return self._with_retries(lambda: self.credentials().apply({}))

    def service(self, api: str, version: str, region: str | None = None) -> Any:  # noqa: ANN401  # created at run time
        """Return an API client (google-api-python-client), created once; its requests may be executed on any thread.

        The API's description is part of the library, so this needs no network. An endpoint can be set by
        ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_ML`` (``_AIPLATFORM``, ``_CONTAINER``), as for gcloud; only such an endpoint
        may use http.

        Args:
            api: its name in the discovery document: ``ml``.
            version: ``v1``.
            region: of the endpoint ``https://REGION-API.googleapis.com/``, for an API with an endpoint per region.

        Raises:
            UsageError: ``endpoint-malformed``; or the key file cannot be used.
            CredentialsError: ``no-credentials``.
        """
        return self.resource(api, version, region=region)

    def resource(self, api: str, version: str, *path: str, region: str | None = None) -> Any:  # noqa: ANN401 - as above
        """Return a part of an API client, created once.

        The library makes the methods of all resources on the way; without those, this takes a tenth of the time.

        Args:
            api: see :meth:`service`, which raises the same.
            version: likewise.
            path: of the resource: ``"projects", "locations", "customJobs"``.
            region: likewise.
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
        options = {"universe_domain": universe}
        endpoint = endpoint_override(self._context.environ, api)
        if endpoint is None and region is not None:
            endpoint = f"https://{region}-{api}.{universe}/"
        if endpoint is not None:
            options["api_endpoint"] = endpoint
        transport = Transport(credentials, f"caliban/{metadata.version('caliban')}", self.retry_policy)
        return build_from_document(description, http=transport, client_options=options)

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
        return with_retries(call, self.retry_policy, self.on_retry, self._context.clock)

    def _default_credentials(self) -> Credentials:
        # whether this machine is on Google Cloud: the metadata address never answers elsewhere, so ask once, not thrice
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
        import google.auth
        import google.auth.exceptions

        logging.getLogger("google.auth").setLevel(logging.ERROR)  # what it logs is in the error
        if self._no_login is not None:
            raise self._no_login
        try:
            credentials, self._found_project = google.auth.default(scopes=SCOPES)
        except google.auth.exceptions.DefaultCredentialsError as error:
            text = str(error.args[0] if error.args else error)
            self._no_login = CredentialsError(
                NO_CREDENTIALS,
                "no Google credentials found",
                cause=None if "were not found" in text else text,  # that adds nothing to the message
                hint="run: gcloud auth application-default login; or pass a service account key with --cloud_key or "
                f"${KEY_VARIABLE}",
            )
            raise self._no_login from error
        return credentials

    def _key(self) -> JsonObject:
        """Return the content of the key file.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
        """
        path = self.key_file()
        assert path is not None
        try:
            content = json.loads(path.expanduser().read_bytes())
        except FileNotFoundError as error:
            raise UsageError(
                "key-not-found", f"file not found: {path}", hint=f"check --cloud_key and ${KEY_VARIABLE}"
            ) from error
        except OSError as error:
            raise UsageError(
                "key-not-readable",
                f"cannot read the credentials file {path}",
                cause=error.strerror,
                hint="check the owner and the mode of the file",
            ) from error
        except ValueError as error:
            raise _malformed(path, "not JSON") from error
        if not isinstance(content, dict):
            raise _malformed(path, "not a JSON object")
        return content

    def _key_credentials(self) -> Credentials:
        import google.auth
        import google.auth.exceptions
        import google.oauth2.credentials
        import google.oauth2.service_account

        path, key = self.key_file(), self._key()
        assert path is not None
        _check_token_uri(path, key)
        try:
            if key.get("type") == "service_account":
                service_account = google.oauth2.service_account.Credentials
                made = service_account.from_service_account_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
            elif key.get("type") == "authorized_user":
                user = google.oauth2.credentials.Credentials
                made = user.from_authorized_user_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
            else:
                with warnings.catch_warnings():  # about files of unknown origin; the user chose this one
                    warnings.simplefilter("ignore", DeprecationWarning)
                    made, self._found_project = google.auth.load_credentials_from_dict(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
        except (google.auth.exceptions.RefreshError, google.auth.exceptions.TransportError) as error:
            # some kinds need a token to find out their project
            raise token_failure(error, key.values()) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise _malformed(path, str(error.args[0] if error.args else error)) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # the library's message about a private key could contain a part of it
            cause = "malformed private key" if "private_key" in key else str(error)
            raise _malformed(path, cause) from None
        return cast("Credentials", made)


@cache
def api_description(api: str, version: str) -> Mapping[str, Any]:
    """Return the discovery document of an API, which google-api-python-client ships; parsed once."""
    from googleapiclient.discovery_cache import get_static_doc  # type: ignore[import-untyped]

    description: Mapping[str, Any] = json.loads(get_static_doc(api, version))
    return description


def _only(path: Sequence[str], description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the description of an API with only the methods and resources of one resource."""
    if not path:
        return description
    inner = _only(path[1:], description["resources"][path[0]])
    return {**description, "methods": {}, "resources": {path[0]: inner}}


def endpoint_override(environ: Mapping[str, str], api: str) -> str | None:
    """Return the endpoint of ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_<API>`` with a slash at its end; None where unset.

    Source: https://cloud.google.com/sdk/gcloud/reference/topic/configurations, section api_endpoint_overrides.

    Raises:
        UsageError: ``endpoint-malformed``.
    """
    variable = _ENDPOINT_VARIABLE + api.upper()
    endpoint = environ.get(variable)
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "endpoint-malformed",
            f"${variable} is not an endpoint",
            cause=f'expected an http or https URL, got "{endpoint}"',
            hint=f"example: https://us-central1-{api}.googleapis.com/",
        )
    return endpoint.rstrip("/") + "/"


def _check_token_uri(path: Path, key: JsonObject) -> None:
    """Refuse a token endpoint without TLS, unless it is on this machine."""
    token_uri = _text(key, "token_uri")
    if token_uri is None:
        return
    parts = urlsplit(token_uri)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise _malformed(path, f"token_uri is not an https URL: {token_uri}")


def _malformed(path: Path, cause: str) -> UsageError:
    return UsageError("key-malformed", f"not a Google credentials file: {path}", cause=cause, hint=_NEW_KEY)


def _text(key: JsonObject, name: str) -> str | None:
    value = key.get(name)
    return value if isinstance(value, str) and value else None
