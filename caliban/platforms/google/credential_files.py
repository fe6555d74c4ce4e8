"""Read and check Google's credentials files, and make the credentials that they describe; nothing is sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from caliban import input_files
from caliban.bounded import parse_json
from caliban.errors import UsageError
from caliban.input_files import InputFileError
from caliban.platforms.google.endpoints import GOOGLE_DOMAIN, may_carry_credentials, token_endpoint_problem
from caliban.records import JsonObject
from caliban.redaction import clean_text, exception_text, register_secrets
from caliban.urls import is_loopback

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
KEY_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"

_SECRETS = ("private_key", "refresh_token", "client_secret")
_GOOGLE_URLS = ("token_uri", "token_url", "token_info_url", "revoke_url", "service_account_impersonation_url")
_SOURCE_URLS = ("url", "region_url", "imdsv2_session_token_url")
_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"
_NEW_KEY = "create a new service account key in the Google Cloud console, and pass it with --cloud_key"


def read_file(path: Path) -> JsonObject:
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


def file_project(key: JsonObject) -> str | None:
    """Return the project that a credentials file names; None for a kind of file that names none.

    As for google-auth, a quota project is not one.
    """
    names = {"service_account": "project_id", "gdch_service_account": "project"}
    name = names.get(file_text(key, "type") or "")
    return file_text(key, name) if name else None


def make_credentials(path: Path, key: JsonObject) -> Credentials:
    """Return the credentials that a file describes, with its quota project.

    Raises:
        UsageError: ``key-malformed``.
    """
    import google.auth.exceptions

    register_secrets(*_secrets_of(key))
    _check_urls(path, key, file_text(key, "universe_domain") or GOOGLE_DOMAIN)
    for name in ("quota_project_id", "universe_domain"):
        _text_at(path, key, name)
    try:
        return _of_type(key)
    except google.auth.exceptions.GoogleAuthError as error:
        text = clean_text(str(error.args[0] if error.args else error))
        raise _malformed(path, text) from None
    except Exception as error:  # noqa: BLE001 - google-auth reads the file without checking types
        # the library's message about a private key could contain a part of it
        cause = "malformed private key" if "private_key" in key else exception_text(error)
        raise _malformed(path, cause) from None


def file_text(key: JsonObject, name: str) -> str | None:
    """Return the text ``name`` of a file; None for anything else, and for an empty text."""
    value = key.get(name)
    return value if isinstance(value, str) and value else None


def _of_type(key: JsonObject) -> Credentials:
    import google.auth
    import google.oauth2.service_account

    kind = key.get("type")
    if kind == "service_account":
        service_account = google.oauth2.service_account.Credentials
        made = service_account.from_service_account_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
    elif kind == "authorized_user":
        made = _user(key)
    elif kind == "impersonated_service_account":
        made = _impersonated(key)
    elif kind == "external_account":
        made = _external(key).from_info(key, scopes=SCOPES)
    else:
        with warnings.catch_warnings():  # about files of unknown origin; their URLs have been checked
            warnings.simplefilter("ignore", DeprecationWarning)
            made, _ = google.auth.load_credentials_from_dict(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
    return cast("Credentials", made)


def _user(key: JsonObject) -> Any:  # noqa: ANN401 - google-auth is untyped
    """Return the credentials of a user. google-auth itself reads no ``token_uri``: it matters on this machine only."""
    import google.oauth2.credentials

    made = google.oauth2.credentials.Credentials.from_authorized_user_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
    endpoint = file_text(key, "token_uri")
    return made.with_token_uri(endpoint) if endpoint and _is_here(endpoint) else made


def _impersonated(key: JsonObject) -> Any:  # noqa: ANN401 - as above
    """Return the credentials of a service account that other credentials impersonate.

    google-auth itself uses the account's name in the URL only, and Google's endpoints; others matter on this machine.
    """
    from google.auth.impersonated_credentials import Credentials as Impersonated

    made = Impersonated.from_impersonated_service_account_info(key, scopes=SCOPES)  # type: ignore[no-untyped-call]
    url, source = file_text(key, "service_account_impersonation_url") or "", _at(key, "source_credentials")
    if not _is_here(url) and not _is_here(file_text(source, "token_uri") or ""):
        return made
    return Impersonated(  # type: ignore[no-untyped-call]
        _of_type(source),
        made.service_account_email,
        SCOPES,
        key.get("delegates"),
        quota_project_id=key.get("quota_project_id"),
        iam_endpoint_override=url if _is_here(url) else None,
    )


def _external(key: JsonObject) -> Any:  # noqa: ANN401 - as above
    """Return the class of credentials of a workload; google-auth's own loader also sends requests for its project."""
    if key.get("subject_token_type") == _AWS_TOKEN:
        from google.auth.aws import Credentials as Aws

        return Aws
    if "executable" in _at(key, "credential_source"):
        from google.auth.pluggable import Credentials as Pluggable

        return Pluggable
    from google.auth.identity_pool import Credentials as IdentityPool

    return IdentityPool


def _is_here(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


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
        if (url := _text_at(path, key, name)) is None:
            continue
        if is_hosted_elsewhere:
            problem = None if may_carry_credentials(url) else "is not an https URL"
        else:
            problem = token_endpoint_problem(url, universe)
        if problem is not None:
            raise _malformed(path, f"{name} {problem}: {clean_text(url)}")
    source = _at(key, "credential_source")
    for name in _SOURCE_URLS:
        url = _text_at(path, source, name)
        if url is not None and not may_carry_credentials(url):
            raise _malformed(path, f"{name} of credential_source is not an https URL: {clean_text(url)}")
    if isinstance(key.get("source_credentials"), Mapping):
        _check_urls(path, _at(key, "source_credentials"), universe)


def _text_at(path: Path, key: JsonObject, name: str) -> str | None:
    value = key.get(name)
    if value is not None and not isinstance(value, str):
        raise _malformed(path, f"{name} is not a text")
    return value or None


def _at(key: JsonObject, name: str) -> JsonObject:
    value = key.get(name)
    return value if isinstance(value, Mapping) else {}


def _malformed(path: Path, cause: str) -> UsageError:
    return UsageError("key-malformed", f"not a Google credentials file: {path}", cause=cause, hint=_NEW_KEY)
