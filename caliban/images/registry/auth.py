"""Who a registry is told that we are: a login that was handed in, or one that ``docker login`` left behind."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from caliban.redaction import redact, strip_userinfo
from caliban.reporter import Reporter

# The name by which credential helpers say that the secret is an identity token.
_TOKEN_USER = "<token>"


@dataclass(frozen=True)
class Login:
    """A user of a registry.

    Attributes:
        username: ``oauth2accesstoken`` where the password is a Google access token; ``<token>`` where it is an
            identity token, as Docker's credential helpers have it (github.com/docker/docker-credential-helpers).
        password: shown nowhere.
    """

    username: str
    password: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether the password is to be exchanged for an access token instead of being sent as a password."""
        return self.username == _TOKEN_USER

    def for_engine(self, host: str) -> dict[str, str]:
        """Write it as the Docker Engine takes it (its API's header X-Registry-Auth)."""
        if self.is_identity_token:
            return {"identitytoken": self.password, "serveraddress": host}
        return {"username": self.username, "password": self.password, "serveraddress": host}

    @property
    def basic(self) -> str:
        """User and password as the header ``Authorization: Basic`` has them."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def hidden_in(self, text: str) -> str:
        """Take the password out of what somebody else said, as it is and as it was sent."""
        return redact((self.password, self.basic), text)


def stored_login(host: str, reporter: Reporter) -> Login | None:
    """Look up what ``docker login`` stored for a registry, in docker's configuration or a credential helper.

    A configuration or helper that does not work is warned about and passed over, as docker does: the registry may
    need no login.

    Args:
        host: ``HOST[:PORT]``.
        reporter: for the warning.

    Returns:
        None where nothing is stored.
    """
    import docker.auth
    import docker.errors

    try:
        with warnings.catch_warnings():
            # docker-py warns of a missing helper, and then raises as well.
            warnings.simplefilter("ignore")
            found = docker.auth.resolve_authconfig(docker.auth.load_config(), host)
    except (docker.errors.DockerException, OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        # All but the first two: docker-py met a value of the wrong kind, which none of them shows.
        reporter.warn(f"docker's stored login for {host} cannot be read: {strip_userinfo(str(error))}")
        return None
    return _login({str(key).lower(): value for key, value in (found or {}).items()})


def _login(entry: Mapping[str, object]) -> Login | None:
    """Read an entry of docker-py, which spells its keys one way from the configuration, another from a helper."""
    token, username, password = (entry.get(key) for key in ("identitytoken", "username", "password"))
    if isinstance(token, str) and token:
        return Login(_TOKEN_USER, token)
    if isinstance(username, str) and isinstance(password, str) and username:
        return Login(username, password)
    return None
