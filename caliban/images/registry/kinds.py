"""Which kind a registry is of: by its host or, where anybody may run it, by how its HTTP API asks for a login."""

from __future__ import annotations

from caliban.images.registry.hosted import Acr, DockerHub, Ecr, EcrPublic, Ghcr
from caliban.images.registry.kind import Kind
from caliban.images.registry.names import Place
from caliban.images.registry.self_hosted import GitLab, Harbor, Quay

KINDS: tuple[Kind, ...] = (
    Ecr(),
    EcrPublic(),
    Ghcr(),
    DockerHub(),
    GitLab(),
    Quay(),
    Acr(),
    Harbor(),
)
"""All that are known."""

_OTHER = Kind()

_WEB_SITES = {
    "hub.docker.com": "docker.io",
    "www.docker.com": "docker.io",
    "github.com": "ghcr.io",
    "docker.pkg.github.com": "ghcr.io",
    "gitlab.com": "registry.gitlab.com",
}
"""Host of a web site, or of a registry that was shut down -> host of the registry."""


def kind_of(host: str, text: str = "") -> Kind:
    """Return the kind of a registry.

    Args:
        host: ``HOST[:PORT]``.
        text: a message of it, or the header WWW-Authenticate of its API's answer; ``""`` where there is none.
    """
    by_host = next((kind for kind in KINDS if kind.hosts.fullmatch(host)), None)
    return by_host or next((kind for kind in KINDS if text and kind.signs.search(text)), _OTHER)


def name_problem(place: Place) -> str | None:
    """Return the form that the name of a place should have; None where it has it, as far as that is known."""
    if (host := _WEB_SITES.get(place.host)) is not None:
        return f"{host}/{place.path}" if place.path else f"a name that begins with {host}"
    return kind_of(place.host).expected(place)
