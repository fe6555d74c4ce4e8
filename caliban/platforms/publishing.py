"""Bringing images that were built here to the registry that jobs elsewhere get them from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caliban.images.registry_names import is_google_registry
from caliban.platforms.base import Surroundings
from caliban.records import ImageRef

if TYPE_CHECKING:
    from caliban.platforms.google import Google


def push_image(image: ImageRef, place: str, surroundings: Surroundings, google: Google) -> ImageRef:
    """Push an image where it is not there already; to a registry of Google's, with an access token.

    Args:
        image: the image's id on this machine.
        place: the registry, and the place in it; see :func:`caliban.images.registry_names.repository`.
        surroundings: whose engine has the image.
        google: asked for a token, for a registry of Google's only.

    Returns:
        What jobs call the image.

    Raises:
        CalibanError: it could not be pushed.
    """
    from caliban.images.registry import Login, push

    login = Login("oauth2accesstoken", google.access_token()) if is_google_registry(place) else None
    return push(surroundings.engine(), image, place, surroundings.reporter, login=login)
