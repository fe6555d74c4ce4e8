"""Registry logins: given by the caller, or stored by ``docker login``."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from caliban.clock import Clock, SystemClock
from caliban.images.docker.deadline import within
from caliban.images.docker.logins import HELPER_SECONDS
from caliban.redaction import exception_text, redact
from caliban.reporter import Reporter

_TOKEN_USER = "<token>"
"""The user name that marks an identity token (github.com/docker/docker-credential-helpers)."""


@dataclass(frozen=True)
class Login:
    """A user of a registry.

    Attributes:
        username: ``<token>`` where the password is an identity token.
        password: never shown.
    """

    username: str
    password: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether the password is exchanged for an access token instead of being sent as a password."""
        return self.username == _TOKEN_USER

    def for_engine(self, host: str) -> dict[str, str]:
        """Return the login in the format of the Docker Engine API's header X-Registry-Auth."""
        if self.is_identity_token:
            return {"identitytoken": self.password, "serveraddress": host}
        return {"username": self.username, "password": self.password, "serveraddress": host}

    @property
    def basic(self) -> str:
        """The credentials of the header ``Authorization: Basic``."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def redact(self, text: str) -> str:
        """Return ``text`` without the password, as it is and as it is sent."""
        return redact((self.password, self.basic), text)


def stored_login(host: str, reporter: Reporter, clock: Clock | None = None) -> Login | None:
    """Return the login that ``docker login`` stored for a registry, in Docker's configuration or a credential helper.

    A configuration or helper that does not work is ignored with a warning, as docker does: the registry may need no
    login.

    Args:
        host: ``HOST[:PORT]``.
        reporter: for the warning.
        clock: how long a helper may take; None for that of this machine.

    Returns:
        None where nothing is stored.
    """
    import docker.auth

    try:
        with warnings.catch_warnings():
            # docker-py warns about a missing helper, and then raises an error for it as well.
            warnings.simplefilter("ignore")
            found = within(
                HELPER_SECONDS,
                lambda: docker.auth.resolve_authconfig(docker.auth.load_config(), host),
                clock or SystemClock(),
                lambda: reporter.info(f"waiting for docker's credential helper for {host} ..."),
            )
    except Exception as error:  # noqa: BLE001 - docker-py read a value of the wrong type, or a helper failed
        reporter.warn(f"cannot read docker's stored login for {host}: {exception_text(error)}")
        return None
    return _login({str(key).lower(): value for key, value in (found or {}).items()})


def _login(entry: Mapping[str, object]) -> Login | None:
    """Read an entry of docker-py, which spells keys differently for the configuration file and for helpers."""
    token, username, password = (entry.get(key) for key in ("identitytoken", "username", "password"))
    if isinstance(token, str) and token:
        return Login(_TOKEN_USER, token)
    if isinstance(username, str) and isinstance(password, str) and username:
        return Login(username, password)
    return None
