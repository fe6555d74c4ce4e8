"""Registries that companies run, each on hosts of its own."""

from __future__ import annotations

import re
from typing import ClassVar

from caliban.config import CONFIG_FILE
from caliban.images.registry.kind import Advice, Kind
from caliban.images.registry.names import Place


class Ecr(Kind):
    """Amazon ECR.

    Sources: ``ecrPattern`` of github.com/awslabs/amazon-ecr-credential-helper for the hosts;
    docs.aws.amazon.com/AmazonECR/latest/userguide: registry_auth (12 hours), docker-push-ecr-image,
    repository-creation-templates.
    """

    name = "Amazon ECR"
    hosts = re.compile(
        r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9][a-z0-9_-]*)\."
        r"(?:amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.com\.cn)|sc2s\.sgov\.gov|c2s\.ic\.gov"
        r"|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
    )
    signs = re.compile(
        r'service="ecr\.amazonaws\.com"|does not exist in the registry with id|aws ecr get-login|perform: ecr:'
    )
    _MISSING = re.compile(r"repository with name .* does not exist", re.IGNORECASE | re.DOTALL)

    def login_hint(self, host: str) -> str:
        """See :meth:`Kind.login_hint`."""
        return (
            f"run: aws {self._service} get-login-password --region {self._region(host)} | "
            f"docker login --username AWS --password-stdin {host} (a login lasts 12 hours; the credential helper "
            "docker-credential-ecr-login renews it)"
        )

    def pull_login_hint(self, host: str) -> str:
        """See :meth:`Kind.pull_login_hint`."""
        return self.login_hint(host)

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        return (
            f"allow the AWS user or role of the login to push to {place.path or 'the repository'} (for example with "
            f"the policy AmazonEC2ContainerRegistryPowerUser); for another one, {self.login_hint(place.host)}"
        )

    def missing(self, place: Place, words: str) -> Advice | None:
        """See :meth:`Kind.missing`."""
        if not self._MISSING.search(words):
            return None
        if place.is_repository:
            return Advice(f"{self.name} has no repository {place.path}", f"run: {self._create(place)}")
        return Advice(f"{self.name} does not create a repository for each image", self._one_repository(place))

    def creation(self, place: Place) -> str | None:
        """See :meth:`Kind.creation`."""
        if place.is_repository:
            return None
        return (
            f"{self.name} has a repository for each image only if a repository creation template creates it on push; "
            f"otherwise, {self._one_repository(place)}"
        )

    _service: ClassVar[str] = "ecr"

    def _region(self, host: str) -> str:
        match = self.hosts.fullmatch(host)
        return match["region"] if match else "REGION"

    def _create(self, place: Place) -> str:
        name = place.path if place.is_repository else "NAME"
        return f"aws {self._service} create-repository --repository-name {name} --region {self._region(place.host)}"

    def _one_repository(self, place: Place) -> str:
        return (
            f'set "repository": "{place.host}/NAME" instead of "registry" in {CONFIG_FILE}, and run: '
            f"{self._create(place)}"
        )


class EcrPublic(Ecr):
    """Amazon ECR Public, whose names begin with an alias of the account.

    Source: docs.aws.amazon.com/AmazonECR/latest/public: public-registries, docker-push-ecr-image.
    """

    name = "Amazon ECR Public"
    hosts = re.compile(r"public\.ecr\.aws")
    signs = re.compile(r'service="public\.ecr\.aws"|perform: ecr-public:')
    _service = "ecr-public"

    def _region(self, host: str) -> str:
        return "us-east-1"

    def _create(self, place: Place) -> str:
        name = "/".join(place.parts[1:]) if place.is_repository else "NAME"
        return f"aws ecr-public create-repository --repository-name {name} --region us-east-1"

    def _one_repository(self, place: Place) -> str:
        alias = place.parts[0] if place.parts else "ALIAS"
        return (
            f'set "repository": "{place.host}/{alias}/NAME" instead of "registry" in {CONFIG_FILE}, and run: '
            f"{self._create(place)}"
        )

    def expected(self, place: Place) -> str | None:
        """See :meth:`Kind.expected`."""
        return _below_owner(place, "ALIAS")


class Ghcr(Kind):
    """GitHub's container registry. A push creates packages, which are private at first.

    Sources: docs.github.com/packages/working-with-a-github-packages-registry/working-with-the-container-registry;
    messages from user reports: "permission_denied: write_package", "permission_denied: create_package",
    "permission_denied: The token provided does not match expected scopes", "installation not allowed to Write
    organization package".
    """

    name = "GitHub's registry"
    hosts = re.compile(r"ghcr\.io|containers\.[a-z0-9.-]+\.ghe\.com")
    signs = re.compile(r'service="ghcr\.io"|permission_denied: |organization package')
    _SCOPES = re.compile(r"does not match expected scopes", re.IGNORECASE)
    _CREATE = re.compile(r"create_package", re.IGNORECASE)

    def login_hint(self, host: str) -> str:
        """See :meth:`Kind.login_hint`."""
        return (
            "create a personal access token (classic) with the scope write:packages, then run: "
            f"docker login {host} --username GITHUB_USER, with the token as password"
        )

    def pull_login_hint(self, host: str) -> str:
        """See :meth:`Kind.pull_login_hint`."""
        return f"run: docker login {host}, with a personal access token (classic) that has the scope read:packages"

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        owner = place.parts[0] if place.parts else "the owner"
        if self._SCOPES.search(words):
            return f"the token of the login lacks the scope write:packages: {self.login_hint(place.host)}"
        if self._CREATE.search(words):
            return (
                f"{owner} has to be the GitHub user of the login, or an organization whose members may create packages"
            )
        return (
            f"check that {owner} is the GitHub user of the login, or an organization that lets that user write "
            f"packages, and that the token has the scope write:packages; to log in again, {self.login_hint(place.host)}"
        )

    def expected(self, place: Place) -> str | None:
        """See :meth:`Kind.expected`."""
        return _below_owner(place, "OWNER")


class DockerHub(Kind):
    """Docker Hub. A push creates repositories with the default privacy of their owner, which is public at first.

    Sources: docs.docker.com/docker-hub/repos/settings (default privacy), docs.docker.com/docker-hub/usage (limits),
    github.com/docker/cli/issues/4977 (a push creates a public repository).
    """

    name = "Docker Hub"
    hosts = re.compile(r"docker\.io|index\.docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com")
    signs = re.compile(r'service="registry\.docker\.io"')
    _PRIVACY = "https://hub.docker.com/repository-settings/default-privacy"
    _FAILED_LOGINS = re.compile(r"failed login attempts", re.IGNORECASE)
    _AS_USER = re.compile(r"rate limit as\b", re.IGNORECASE)

    def login_hint(self, host: str) -> str:
        """See :meth:`Kind.login_hint`."""
        return "run: docker login (with an access token, one that may read and write)"

    def pull_login_hint(self, host: str) -> str:
        """See :meth:`Kind.pull_login_hint`."""
        return "run: docker login"

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        owner = place.parts[0] if place.parts else "the owner"
        return (
            f"{self.login_hint(place.host)}, as {owner} or a member who may push there; if the account has as many "
            "private repositories as its plan allows, a push that would create one is denied too"
        )

    def expected(self, place: Place) -> str | None:
        """See :meth:`Kind.expected`."""
        needed = 2 if place.is_repository else 1
        return None if len(place.parts) == needed else f"{place.host}/USER_OR_ORGANIZATION{'/NAME' * (needed - 1)}"

    def creation(self, place: Place) -> str | None:
        """See :meth:`Kind.creation`."""
        owner = place.parts[0] if place.parts else "the owner"
        public = f"which is public unless {owner} changed it ({self._PRIVACY})"
        if place.is_repository:
            return (
                f"{place.name} has no images yet: if it does not exist, the push creates it with the default privacy, "
                f"{public}; to keep the image private, create the repository as a private one before"
            )
        return (
            f"each image becomes a new repository of {owner} on Docker Hub, with the default privacy, {public}; to "
            f'keep images private, create one private repository, and set "repository": "docker.io/{owner}/NAME" '
            f'instead of "registry" in {CONFIG_FILE}'
        )

    def pull_limit(self, words: str) -> str:
        """See :meth:`Kind.pull_limit`."""
        if self._FAILED_LOGINS.search(words):
            return "the stored login is wrong: run: docker logout, then docker login; and wait some minutes"
        if self._AS_USER.search(words):
            return "wait up to 6 hours"
        return "run: docker login, as accounts have a higher limit; or wait up to 6 hours"


class Acr(Kind):
    """Azure Container Registry.

    Source: learn.microsoft.com/azure/container-registry/container-registry-authentication (tokens last 3 hours).
    """

    name = "Azure Container Registry"
    signs = re.compile(r'service="[a-z0-9-]+\.azurecr\.|aka\.ms/acr/')
    hosts = re.compile(r"(?P<name>[a-z0-9-]+)\.azurecr\.(?:io|cn|us)")

    def login_hint(self, host: str) -> str:
        """See :meth:`Kind.login_hint`."""
        return f"run: az acr login --name {host.partition('.')[0]} (a login lasts 3 hours)"

    def pull_login_hint(self, host: str) -> str:
        """See :meth:`Kind.pull_login_hint`."""
        return self.login_hint(host)

    def access_hint(self, place: Place, words: str) -> str:
        """See :meth:`Kind.access_hint`."""
        return (
            f"assign the role AcrPush on the registry {place.host.partition('.')[0]} to the account; to log in again, "
            f"{self.login_hint(place.host)}"
        )


def _below_owner(place: Place, owner: str) -> str | None:
    """Return the form of a place below an owner, if this one lacks a part; None otherwise."""
    needed = 2 if place.is_repository else 1
    return None if len(place.parts) >= needed else f"{place.host}/{owner}{'/NAME' * (needed - 1)}"
