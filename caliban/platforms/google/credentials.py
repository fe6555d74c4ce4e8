"""Find and load Google credentials: a credentials file, or else what this machine provides."""

from __future__ import annotations

import logging
import os
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from caliban import input_files
from caliban.bounded import DeadlineExceededError, parse_json
from caliban.errors import CalibanError, UsageError
from caliban.helper_process import run_helper
from caliban.input_files import InputFileError
from caliban.platforms.context import PlatformContext
from caliban.platforms.flags import cloud_key
from caliban.platforms.google.endpoints import GOOGLE_DOMAIN, may_carry_credentials, token_endpoint_problem
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError, token_failure, unreachable
from caliban.platforms.google.tokens import PROGRAM_SECONDS, PROGRAM_SLOW, metadata_request, single_attempt
from caliban.platforms.retry import RetryPolicy
from caliban.records import JsonObject
from caliban.redaction import clean_text, exception_text, register_secrets
from caliban.threads import within

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

_PROJECT_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
_GCLOUD_SECONDS = 20.0
_GCLOUD_SLOW = f"waiting for: gcloud config get project (for up to {_GCLOUD_SECONDS:.0f} s) ..."
_SECRETS = ("private_key", "refresh_token", "client_secret")
_GOOGLE_URLS = ("token_uri", "token_url", "token_info_url", "revoke_url", "service_account_impersonation_url")
_SOURCE_URLS = ("url", "region_url", "imdsv2_session_token_url")
_NEW_KEY = "create a new service account key in the Google Cloud console, and pass it with --cloud_key"


class CredentialsLoader:
    """Finds and loads the credentials of one user. Reads nothing before that is needed."""

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy) -> None:
        self._context = context
        self._request = single_attempt(retry_policy, context.clock, context.announce)
        self._no_login: CredentialsError | None = None
        self._found_project: str | None = None

    def key_file(self) -> Path | None:
        """Return ``--cloud_key``, or ``$GOOGLE_APPLICATION_CREDENTIALS``, or None."""
        named = cloud_key(self._context.options) or self._context.environ.get(KEY_VARIABLE)
        return Path(named) if named else None

    def load(self) -> Credentials:
        """Return the credentials of the key file, or else the application default credentials.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
            CredentialsError: ``no-credentials``.
        """
        path = self.key_file() or self._default_file()
        return self._default_credentials() if path is None else self._load(path)

    def key_project(self) -> str | None:
        """Return the project that the key file names.

        Raises:
            UsageError: see :meth:`load`.
        """
        path = self.key_file()
        key = {} if path is None else _read(path)
        return _text(key, "project_id") or _text(key, "quota_project_id")

    def default_project(self) -> str | None:
        """Return the project of loaded credentials: that of the environment or the file, or that of gcloud."""
        named = next(filter(None, map(self._context.environ.get, _PROJECT_VARIABLES)), None)
        found = named or self._found_project
        return found or (self._gcloud_project() if self.key_file() is None and self._default_file() else None)

    def _default_file(self) -> Path | None:
        """Return the file that ``gcloud auth application-default login`` writes, if there is one."""
        directory = self._context.environ.get("CLOUDSDK_CONFIG") or self._context.home / ".config" / "gcloud"
        path = Path(directory) / "application_default_credentials.json"
        return path if input_files.is_file(path) else None

    def _gcloud_project(self) -> str | None:
        environ = dict(self._context.environ)
        try:
            result = run_helper(
                ("gcloud", "config", "get", "project"),
                self._context.clock,
                environ=environ,
                seconds=_GCLOUD_SECONDS,
                on_slow=partial(self._context.announce, _GCLOUD_SLOW),
            )
        except (OSError, ValueError):  # not installed, or it hangs
            return None
        return result.stdout.decode("utf-8", "replace").strip() or None if result.code == 0 else None

    def _load(self, path: Path) -> Credentials:
        import google.auth.exceptions

        key = _read(path)
        register_secrets(*_secrets_of(key))
        _check_urls(path, key, _text(key, "universe_domain") or GOOGLE_DOMAIN)
        try:
            return self._of_type(key)
        except (google.auth.exceptions.RefreshError, google.auth.exceptions.TransportError) as error:
            # some kinds need a token to find out their project
            raise token_failure(error, key.values()) from None
        except google.auth.exceptions.GoogleAuthError as error:
            text = clean_text(str(error.args[0] if error.args else error))
            raise _malformed(path, text) from None
        except (DeadlineExceededError, subprocess.SubprocessError) as error:
            raise unreachable("run the program for credentials", error) from None
        except CalibanError:
            raise
        except Exception as error:  # noqa: BLE001 - google-auth reads the file without checking types
            # the library's message about a private key could contain a part of it
            cause = "malformed private key" if "private_key" in key else exception_text(error)
            raise _malformed(path, cause) from None

    def _of_type(self, key: JsonObject) -> Credentials:
        import google.auth
        import google.oauth2.credentials
        import google.oauth2.service_account

        if key.get("type") == "service_account":
            service_account = google.oauth2.service_account.Credentials
            made = service_account.from_service_account_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
        elif key.get("type") == "authorized_user":
            user = google.oauth2.credentials.Credentials
            made = user.from_authorized_user_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
        else:
            made, self._found_project = self._of_other_type(key)
        self._found_project = self._found_project or _text(key, "project_id") or _text(key, "quota_project_id")
        return cast("Credentials", made)

    def _of_other_type(self, key: JsonObject) -> tuple[Credentials, str | None]:
        """Load credentials for which google-auth may send requests, or run a program, to find out their project."""
        import google.auth

        found: list[tuple[Credentials, str | None]] = []

        def load() -> None:
            with warnings.catch_warnings():  # about files of unknown origin; their URLs have been checked
                warnings.simplefilter("ignore", DeprecationWarning)
                found.append(google.auth.load_credentials_from_dict(key, scopes=SCOPES, request=self._request))  # type: ignore[no-untyped-call]

        if "executable" in _at(key, "credential_source"):
            on_slow = partial(self._context.announce, PROGRAM_SLOW)
            within(PROGRAM_SECONDS, load, self._context.clock, on_slow, late="a credential helper did not end")
        else:
            load()
        return found[0]

    def _default_credentials(self) -> Credentials:
        # whether this machine is on Google Cloud: the metadata address never answers elsewhere, so ask once, not thrice
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
        import google.auth
        import google.auth.exceptions

        logging.getLogger("google.auth").setLevel(logging.ERROR)  # what it logs is in the error
        if self._no_login is not None:
            raise self._no_login
        try:
            credentials, self._found_project = google.auth.default(
                scopes=SCOPES,
                request=metadata_request(self._request),  # type: ignore[arg-type]  # it is only called
            )
        except google.auth.exceptions.GoogleAuthError as error:
            text = clean_text(str(error.args[0] if error.args else error))
            self._no_login = CredentialsError(
                NO_CREDENTIALS,
                "no Google credentials found",
                cause=None if "were not found" in text else text,  # that adds nothing to the message
                hint="run: gcloud auth application-default login; or pass a service account key with --cloud_key or "
                f"${KEY_VARIABLE}",
            )
            raise self._no_login from None
        return credentials


def _read(path: Path) -> JsonObject:
    """Return the content of a credentials file.

    Raises:
        UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``.
    """
    try:
        content = parse_json(input_files.read_bytes(path.expanduser()))
    except InputFileError as error:
        if error.is_missing:
            raise UsageError(
                "key-not-found", f"file not found: {path}", hint=f"check --cloud_key and ${KEY_VARIABLE}"
            ) from error
        raise UsageError(
            "key-not-readable",
            f"cannot read the credentials file {path}",
            cause=error.cause,
            hint="check the owner and the mode of the file",
        ) from error
    except RuntimeError as error:  # ~USER, and there is no such user
        raise UsageError("key-not-found", f"file not found: {path}", cause=exception_text(error)) from None
    except ValueError:
        raise _malformed(path, "not JSON") from None
    if not isinstance(content, dict):
        raise _malformed(path, "not a JSON object")
    return content


def _secrets_of(key: JsonObject) -> Iterator[object]:
    """Yield the secrets of a credentials file, and those of the credentials and requests inside it."""
    yield from (key.get(name) for name in _SECRETS)
    source = key.get("source_credentials")
    if isinstance(source, Mapping):
        yield from (source.get(name) for name in _SECRETS)
    headers = _at(key, "credential_source").get("headers")
    if isinstance(headers, Mapping):
        yield from headers.values()


def _check_urls(path: Path, key: JsonObject, universe: str) -> None:
    """Check where the credentials of a file would be sent: to Google; and subject tokens be fetched: not in the clear.

    Source: https://cloud.google.com/docs/authentication/external/externally-sourced-credentials

    Raises:
        UsageError: ``key-malformed``.
    """
    is_hosted_elsewhere = key.get("type") == "gdch_service_account"  # Google Distributed Cloud, in a data center
    for name in _GOOGLE_URLS:
        if (url := _url(path, key, name)) is None:
            continue
        if is_hosted_elsewhere:
            problem = None if may_carry_credentials(url) else "is not an https URL"
        else:
            problem = token_endpoint_problem(url, universe)
        if problem is not None:
            raise _malformed(path, f"{name} {problem}: {clean_text(url)}")
    source = _at(key, "credential_source")
    for name in _SOURCE_URLS:
        url = _url(path, source, name)
        if url is not None and not may_carry_credentials(url):
            raise _malformed(path, f"{name} of credential_source is not an https URL: {clean_text(url)}")
    if isinstance(key.get("source_credentials"), Mapping):
        _check_urls(path, _at(key, "source_credentials"), universe)


def _url(path: Path, key: JsonObject, name: str) -> str | None:
    value = key.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(path, f"{name} is not a text")
    return value or None


def _at(key: JsonObject, name: str) -> JsonObject:
    value = key.get(name)
    return value if isinstance(value, Mapping) else {}


def _malformed(path: Path, cause: str) -> UsageError:
    return UsageError("key-malformed", f"not a Google credentials file: {path}", cause=cause, hint=_NEW_KEY)


def _text(key: JsonObject, name: str) -> str | None:
    value = key.get(name)
    return value if isinstance(value, str) and value else None
