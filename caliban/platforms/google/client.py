"""Whose name a Google API is called in, for which project, and where: credentials, project, endpoints, clients."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from caliban.errors import UsageError
from caliban.platforms.base import PlatformContext
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError, token_failure
from caliban.platforms.google.transport import ApiRequest, RefreshingCredentials, Transport, execute_once
from caliban.platforms.retry import DEFAULT, RetryPolicy, report_retry, with_retries
from caliban.records import JsonObject

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT_VARIABLE = "PROJECT_ID"

PAGE_SIZE = 100
"""Jobs on one page: the most that the training services give."""

_ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_NEW_KEY = "make a new key of a service account in the Google Cloud console, and name it with --cloud_key"


class Google:
    """Google's APIs as one person reaches them. Nothing is read, imported or connected to before it is asked for.

    May be shared by threads.
    """

    def __init__(self, platform_context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        self.retry_policy = retry_policy or DEFAULT
        self.on_retry = report_retry(platform_context.announce)
        self._context = platform_context
        self._lock = threading.RLock()
        self._credentials: RefreshingCredentials | None = None
        self._no_login: CredentialsError | None = None
        self._found_project: str | None = None
        self._services: dict[tuple[str, str, str | None], Any] = {}

    def project(self) -> str:
        """``--project_id``, else ``$PROJECT_ID``, else the key file's project, else that of the default credentials.

        Raises:
            UsageError: ``no-project``; or the key file is of no use, see :meth:`authority`.
            CredentialsError: ``no-credentials``.
        """
        named = self._context.project_id or self._context.environ.get(PROJECT_VARIABLE)
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
                "no Google Cloud project is named",
                cause="neither --project_id nor $PROJECT_ID is given, and the credentials belong to no project",
                hint="name one with --project_id, or export PROJECT_ID",
            )
        return found

    def key_file(self) -> Path | None:
        """``--cloud_key``, else ``$GOOGLE_APPLICATION_CREDENTIALS``, else None."""
        named = self._context.cloud_key or self._context.environ.get(KEY_VARIABLE)
        return Path(named) if named else None

    def credentials(self) -> RefreshingCredentials:
        """The credentials, made once: of the key file, or the application default ones.

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
        """A token that is good for some minutes: what a Google registry takes as the password of `oauth2accesstoken`.

        Raises:
            UsageError, CredentialsError: see :meth:`authority`, and ``credentials-refused``.
            GoogleUnreachableError: the token endpoint cannot be reached.
        """
        return with_retries(lambda: self.credentials().apply({}), self.retry_policy, self.on_retry)

    def service(self, api: str, version: str, region: str | None = None) -> Any:  # noqa: ANN401  # made at run time
        """A client (google-api-python-client) of an API, made once; its requests may be executed on any thread.

        The API's description comes with the library, so no network is needed. ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_ML``
        (and ``_AIPLATFORM``, ``_CONTAINER``, as gcloud has them) name another endpoint; only there may it be http.

        Args:
            api: its name in the discovery document: ``ml``.
            version: ``v1``.
            region: whose endpoint is asked, ``https://REGION-API.googleapis.com/``, for an API that has one a region.

        Raises:
            UsageError: ``endpoint-malformed``; or the key file is of no use.
            CredentialsError: ``no-credentials``.
        """
        from googleapiclient.discovery import build  # type: ignore[import-untyped]

        with self._lock:
            if (api, version, region) not in self._services:
                authority = self.credentials()
                universe = authority.credentials.universe_domain
                options = {"universe_domain": universe}
                endpoint = endpoint_override(self._context.environ, api)
                if endpoint is None and region is not None:
                    endpoint = f"https://{region}-{api}.{universe}/"
                if endpoint is not None:
                    options["api_endpoint"] = endpoint
                self._services[api, version, region] = build(
                    api,
                    version,
                    http=Transport(authority, f"caliban/{metadata.version('caliban')}", self.retry_policy),
                    client_options=options,
                    static_discovery=True,
                    cache_discovery=False,
                )
            return self._services[api, version, region]

    def execute(self, request: ApiRequest, doing: str) -> JsonObject:
        """Send a request that may be sent again: with_retries. See
        :func:`~caliban.platforms.google.transport.execute_once`.

        Raises:
            GoogleError, CredentialsError: as there, once retry_policy is at an end.
        """
        return with_retries(lambda: execute_once(request, doing), self.retry_policy, self.on_retry)

    def _default_credentials(self) -> Credentials:
        # Whether this machine is one of Google's is asked of an address that is silent elsewhere: once, not thrice.
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
        import google.auth
        import google.auth.exceptions

        logging.getLogger("google.auth").setLevel(logging.ERROR)  # what it would tell is in the error
        if self._no_login is not None:
            raise self._no_login
        try:
            credentials, self._found_project = google.auth.default(scopes=SCOPES)
        except google.auth.exceptions.DefaultCredentialsError as error:
            words = str(error.args[0] if error.args else error)
            self._no_login = CredentialsError(
                NO_CREDENTIALS,
                "there are no Google credentials",
                cause=None if "were not found" in words else words,  # that says no more than our own words
                hint=f"run gcloud auth application-default login, or name a key with --cloud_key or ${KEY_VARIABLE}",
            )
            raise self._no_login from error
        return credentials

    def _key(self) -> JsonObject:
        """The key file's content.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
        """
        path = self.key_file()
        assert path is not None
        try:
            content = json.loads(path.expanduser().read_bytes())
        except FileNotFoundError as error:
            raise UsageError(
                "key-not-found", f"there is no credentials file {path}", hint=f"see --cloud_key and ${KEY_VARIABLE}"
            ) from error
        except OSError as error:
            raise UsageError(
                "key-not-readable",
                f"the credentials file {path} cannot be read",
                cause=error.strerror,
                hint="see who owns the file, and its mode",
            ) from error
        except ValueError as error:
            raise _malformed(path, "it is not JSON") from error
        if not isinstance(content, dict):
            raise _malformed(path, "it is not a JSON object")
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
                with warnings.catch_warnings():  # about files of unknown origin; the person named this one
                    warnings.simplefilter("ignore", DeprecationWarning)
                    made, self._found_project = google.auth.load_credentials_from_dict(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
        except (google.auth.exceptions.RefreshError, google.auth.exceptions.TransportError) as error:
            # some kinds need a token to learn their project
            raise token_failure(error, key.values()) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise _malformed(path, str(error.args[0] if error.args else error)) from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # what is said of a private key could hold a part of it
            cause = "its private key cannot be read" if "private_key" in key else str(error)
            raise _malformed(path, cause) from None
        return cast("Credentials", made)


def endpoint_override(environ: Mapping[str, str], api: str) -> str | None:
    """The endpoint that ``$CLOUDSDK_API_ENDPOINT_OVERRIDES_<API>`` names, with a slash at its end; None where unset.

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
            f"${variable} does not name an endpoint",
            cause=f"{endpoint!r} is not an http or https URL",
            hint=f"for example https://us-central1-{api}.googleapis.com/",
        )
    return endpoint.rstrip("/") + "/"


def _check_token_uri(path: Path, key: JsonObject) -> None:
    """Tokens come over TLS, but for a stand-in on this machine."""
    token_uri = _text(key, "token_uri")
    if token_uri is None:
        return
    parts = urlsplit(token_uri)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise _malformed(path, f"its token_uri is not an https URL: {token_uri}")


def _malformed(path: Path, cause: str) -> UsageError:
    return UsageError("key-malformed", f"{os.fspath(path)} is no Google credentials file", cause=cause, hint=_NEW_KEY)


def _text(key: JsonObject, name: str) -> str | None:
    value = key.get(name)
    return value if isinstance(value, str) and value else None
