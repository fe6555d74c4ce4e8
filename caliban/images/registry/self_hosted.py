"""Registries that anybody may run, recognized by how they ask for a login."""

from __future__ import annotations

import re

from caliban.config import CONFIG_FILE
from caliban.images.registry.kind import Advice, Kind
from caliban.images.registry.names import Place


class Harbor(Kind):
    """Harbor, which anybody may run.

    Sources: github.com/goharbor/harbor: src/server/middleware/v2auth (the challenge),
    docs/working-with-projects/working-with-images/pulling-pushing-images (projects), issues 20544 and 21373 (messages:
    "project lab not found", "unauthorized to access repository: lab/digits, action: push").
    """

    name = "Harbor"
    signs = re.compile(
        r'service="(?:harbor-registry|token-service)"|realm="[^"]*/service/token"'
        r"|\bproject \S+ not found|unauthorized to access repository: "
    )
    _MISSING = re.compile(r"\bproject\b.{0,300}\bnot found", re.IGNORECASE | re.DOTALL)

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        project = place.parts[0] if place.parts else "the project"
        return (
            f"get the role Developer or higher in the project {project} of Harbor, which has to exist, or a robot "
            f"account that may push there; to log in again, {self.login_hint(place.host)} (with single sign-on, with "
            "the CLI secret of your user profile)"
        )

    def missing(self, place: Place, words: str) -> Advice | None:
        """See :meth:`Kind.missing`."""
        if not self._MISSING.search(words):
            return None
        project = place.parts[0] if place.parts else "PROJECT"
        hint = f'create the project {project} in Harbor, or correct "{place.key}" in {CONFIG_FILE}: '
        hint += f"{place.host}/PROJECT{'/NAME' if place.is_repository else ''}"
        return Advice(f"Harbor has no project {project}", hint)


class GitLab(Kind):
    """GitLab, which anybody may run.

    Sources: docs.gitlab.com/user/packages/container_registry: "Naming convention for your container images",
    authenticate_with_container_registry (scopes).
    """

    name = "GitLab"
    hosts = re.compile(r"registry\.gitlab\.com")
    signs = re.compile(r'realm="[^"]*/jwt/auth"|HTTP Basic: Access denied')

    def login_hint(self, host: str) -> str:
        """See :meth:`Kind.login_hint`."""
        return (
            f"run: docker login {host}, with a personal, project or deploy token that has the scopes read_registry and "
            "write_registry"
        )

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        return (
            f'check that "{place.key}" begins with the path of a project, {place.host}/GROUP/PROJECT, has at most two '
            "more levels for an image, and that the project has the container registry enabled and you as a Developer "
            f"or higher; to log in again, {self.login_hint(place.host)}"
        )

    def expected(self, place: Place) -> str | None:
        """See :meth:`Kind.expected`."""
        return None if len(place.parts) >= 2 else f"{place.host}/GROUP/PROJECT"


class Quay(Kind):
    """Quay. A push creates repositories, private unless its administrator changed that.

    Sources: github.com/quay/quay, config.py (CREATE_PRIVATE_REPO_ON_PUSH, CREATE_NAMESPACE_ON_PUSH);
    docs.quay.io/glossary/robot-accounts.html.
    """

    name = "Quay"
    hosts = re.compile(r"quay\.io")
    signs = re.compile(r'realm="[^"]*/v2/auth"|Could not find robot with')

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        owner = place.parts[0] if place.parts else "the namespace"
        return (
            f"check that {owner} is a user or an organization of Quay, and that the login may create repositories "
            f"there (a robot account needs write permission to an existing repository, or a team with the role "
            f"creator); to log in again, {self.login_hint(place.host)}"
        )

    def expected(self, place: Place) -> str | None:
        """See :meth:`Kind.expected`."""
        needed = 2 if place.is_repository else 1
        return None if len(place.parts) >= needed else f"{place.host}/NAMESPACE{'/NAME' * (needed - 1)}"
