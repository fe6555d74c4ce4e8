"""Find and load Google credentials: a credentials file, or else what this machine provides; and their project."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caliban import input_files
from caliban.errors import UsageError
from caliban.helper_process import run_helper
from caliban.platforms.context import PlatformContext
from caliban.platforms.flags import cloud_key
from caliban.platforms.google.credential_files import (
    KEY_VARIABLE,
    SCOPES,
    file_project,
    file_text,
    make_credentials,
    read_file,
)
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError
from caliban.platforms.google.identifiers import PROJECT
from caliban.platforms.google.projects import QUOTA_VARIABLE, ProjectChoice
from caliban.platforms.google.token_errors import kind_of
from caliban.platforms.google.tokens import metadata_request, single_attempt
from caliban.platforms.retry import RetryPolicy
from caliban.redaction import clean_text

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_GCLOUD_SECONDS = 20.0
_GCLOUD_SLOW = f"waiting for: gcloud config get project (for up to {_GCLOUD_SECONDS:.0f} s) ..."


class CredentialsLoader:
    """Finds and loads the credentials of one user. Reads nothing before that is needed."""

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy) -> None:
        self._context = context
        self._request = single_attempt(retry_policy, context.clock, context.announce)
        self._no_login: CredentialsError | None = None
        self._machine_project: str | None = None

    def key_file(self) -> Path | None:
        """Return ``--cloud_key``, or ``$GOOGLE_APPLICATION_CREDENTIALS``, or None."""
        named = cloud_key(self._context.options) or self._context.environ.get(KEY_VARIABLE)
        return Path(named) if named else None

    def load(self) -> Credentials:
        """Return the credentials of the key file, or else the application default credentials.

        As for google-auth, ``$GOOGLE_CLOUD_QUOTA_PROJECT`` replaces the quota project of a file; requests have it in
        the header ``x-goog-user-project``.

        Raises:
            UsageError: ``key-not-found``, ``key-not-readable`` or ``key-malformed``; ``project-malformed``: the quota
                project is.
            CredentialsError: ``no-credentials``.
        """
        from google.auth.credentials import CredentialsWithQuotaProject

        path = self.key_file() or self._default_file()
        made = self._default_credentials() if path is None else make_credentials(path, read_file(path))
        quota_project = self._context.environ.get(QUOTA_VARIABLE)
        if quota_project and isinstance(made, CredentialsWithQuotaProject):
            made = made.with_quota_project(quota_project)  # type: ignore[no-untyped-call]
        if made.quota_project_id:
            PROJECT.check_given(made.quota_project_id)
        return made

    def key_project(self) -> ProjectChoice | None:
        """Return the project that the key file itself names.

        Raises:
            UsageError: see :meth:`load`.
        """
        path = self.key_file()
        found = file_project(read_file(path)) if path else None
        return ProjectChoice(found, "the credentials file") if found else None

    def key_project_if_readable(self) -> ProjectChoice | None:
        """Return :meth:`key_project`; None for a file that cannot be read."""
        with suppress(UsageError):
            return self.key_project()
        return None

    def default_project(self, credentials: Credentials) -> ProjectChoice | None:
        """Return the project of loaded credentials that have a valid token, as google-auth determines it.

        Args:
            credentials: what :meth:`load` returned.
        """
        choice = self._default_file_project()
        if choice is None and kind_of(credentials) == "external":
            found = self._federated_project(credentials)
            choice = ProjectChoice(found, "workload identity federation", is_obvious=False) if found else None
        if choice is None and self._machine_project:
            choice = ProjectChoice(self._machine_project, "the metadata server", is_obvious=False)
        return choice

    def quota_project(self) -> str | None:
        """Return the quota project that the environment or the credentials file names, if it can be read."""
        found = self._context.environ.get(QUOTA_VARIABLE)
        path = self.key_file() or self._default_file()
        if not found and path:
            with suppress(UsageError):
                found = file_text(read_file(path), "quota_project_id")
        return found or None

    def _federated_project(self, credentials: Credentials) -> str | None:
        """Return the project of a workload identity pool, which only some accounts may see."""
        with suppress(ValueError):  # the answer is no JSON
            found = credentials.get_project_id(self._request)  # type: ignore[attr-defined]
            return found if isinstance(found, str) and found else None
        return None

    def _default_file_project(self) -> ProjectChoice | None:
        """Return what the file of ``gcloud auth application-default login`` names, or else gcloud's configuration."""
        default, named = self._default_file(), self.key_file()
        if default is None or (named is not None and named != default):
            return None
        found = file_project(read_file(default))
        if found:
            return ProjectChoice(found, "the application default credentials", is_obvious=False)
        found = self._gcloud_project()
        return ProjectChoice(found, "gcloud's configuration", is_obvious=False) if found else None

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

    def _default_credentials(self) -> Credentials:
        # whether this machine is on Google Cloud: the metadata address never answers elsewhere, so ask once, not thrice
        os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
        import google.auth
        import google.auth.exceptions

        logging.getLogger("google.auth").setLevel(logging.ERROR)  # what it logs is in the error
        if self._no_login is not None:
            raise self._no_login
        try:
            credentials, self._machine_project = google.auth.default(
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
