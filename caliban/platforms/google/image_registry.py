"""Bringing images that were built here to the registry that jobs elsewhere get them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.images.registry.names import is_google_registry, registry_host
from caliban.platforms.base import PlatformContext
from caliban.platforms.google.errors import NO_CREDENTIALS, CredentialsError
from caliban.records import ImageRef

if TYPE_CHECKING:
    from caliban.images.registry.auth import Login
    from caliban.platforms.google.client import Google


@dataclass(frozen=True)
class Registry:
    """Where a platform's images are pushed, as one person reaches it.

    Attributes:
        place: the registry, and the place in it; see :func:`caliban.images.registry.names.repository`.
        context: whose engine has the images.
        google: asked for an access token, for a registry of Google's only.
    """

    place: str
    context: PlatformContext
    google: Google

    def check(self) -> None:
        """Learn before an image is built whether Google's registry will take it; others make places by themselves.

        Raises:
            CalibanError: it will not.
        """
        if is_google_registry(self.place):
            from caliban.images.registry.push import check_place

            check_place(self.place, self.context.reporter, login=self._login())

    def push(self, image: ImageRef, *, by_digest: bool = True) -> ImageRef:
        """Push an image where it is not there already.

        Args:
            image: the image's id on this machine.
            by_digest: have jobs name exactly this image, rather than whatever has its tag when they start.

        Returns:
            What jobs call the image.

        Raises:
            CalibanError: it could not be pushed.
        """
        from caliban.images.registry.push import push

        pushed = push(self.context.engine(), image, self.place, self.context.reporter, login=self._login())
        return pushed.by_digest if by_digest else pushed.by_tag

    def _login(self) -> Login | None:
        """A Google access token for a registry of Google's; where there is no Google login, docker's for the host.

        Raises:
            CalibanError: there is neither, or Google does not accept the credentials.
        """
        from caliban.images.registry.auth import Login, stored_login

        if not is_google_registry(self.place):
            return None
        try:
            return Login("oauth2accesstoken", self.google.access_token())
        except CredentialsError as error:
            if error.id != NO_CREDENTIALS:
                raise
            host = registry_host(self.place)
            if (stored := stored_login(host, self.context.reporter)) is not None:
                return stored
            raise CredentialsError(
                NO_CREDENTIALS,
                f"there are no Google credentials, and no login that docker stored for {host}",
                cause=error.cause,
                hint=f"{error.hint}; or run gcloud auth configure-docker {host} or docker login {host}",
            ) from error
