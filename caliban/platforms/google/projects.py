"""Which Google Cloud project is used: the rule of google-auth and gcloud, after caliban's own flag and variable.

Source: ``google.auth.default``, https://googleapis.dev/python/google-auth/latest/reference/google.auth.html. A quota
project (``quota_project_id``, ``GOOGLE_CLOUD_QUOTA_PROJECT``) pays for requests; it is not the project of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms.flags import project_id

PROJECT_VARIABLE = "PROJECT_ID"
QUOTA_VARIABLE = "GOOGLE_CLOUD_QUOTA_PROJECT"
_GOOGLE_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")


@dataclass(frozen=True)
class ProjectChoice:
    """A project, and what names it.

    Attributes:
        id: of the project, as it was given.
        source: ``--project_id``, ``$PROJECT_ID``, ``the credentials file``.
        is_obvious: whether the user named it for caliban, or together with the credentials.
    """

    id: str
    source: str
    is_obvious: bool = True


def named_project(options: Mapping[str, object], environ: Mapping[str, str]) -> ProjectChoice | None:
    """Return the project that a flag or a variable names: ``--project_id``, ``$PROJECT_ID``, ``$GOOGLE_CLOUD_PROJECT``.

    Args:
        options: the values of the command's flags by name.
        environ: the environment variables.
    """
    chosen = project_id(options)
    if chosen:
        return ProjectChoice(chosen, "--project_id")
    preset = environ.get(PROJECT_VARIABLE)
    return ProjectChoice(preset, f"${PROJECT_VARIABLE}") if preset else googles_project(environ)


def googles_project(environ: Mapping[str, str]) -> ProjectChoice | None:
    """Return the project of the variable of Google's libraries; the older one counts where the other is not set."""
    name = next((each for each in _GOOGLE_VARIABLES if each in environ), None)
    return ProjectChoice(environ[name], f"${name}", is_obvious=False) if name and environ[name] else None


def choice_line(choice: ProjectChoice, other: ProjectChoice | None) -> str | None:
    """Return the line that says which project is used; None where that is obvious.

    Args:
        choice: the project.
        other: one that something else names, for which it could be taken.
    """
    if choice.source == "--project_id":
        return None
    if other is not None and other.id != choice.id:
        change = "use --project_id to change that"
        return f"using project {choice.id} ({choice.source}), not {other.id} ({other.source}); {change}"
    return None if choice.is_obvious else f"using project {choice.id} ({choice.source})"
