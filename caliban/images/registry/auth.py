"""Registry logins: given by the caller, or stored by ``docker login``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from caliban import input_files
from caliban.bounded import DeadlineExceededError, parse_json
from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError, one_line
from caliban.images.registry.helpers import TOKEN_USER, UnreadableError, helper_login
from caliban.images.registry.names import DOCKER_HUB_HOSTS
from caliban.redaction import clean_text, exception_text, redact, register_secrets
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from docker.auth import AuthConfig

NO_LOGIN = "has no login for"
"""Of a problem: what the helper of a registry, which nothing else can have a login for, says."""

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


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
        return self.username == TOKEN_USER

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


def _ignore(problem: str) -> None:
    """Do nothing with a problem that a warning reports."""


def stored_login(
    host: str, reporter: Reporter, clock: Clock | None = None, *, on_problem: Callable[[str], None] = _ignore
) -> Login | None:
    """Return the login that ``docker login`` stored for a registry, in Docker's configuration or a credential helper.

    A configuration or helper that does not work is ignored with a warning, as docker does: the registry may need no
    login.

    Args:
        host: ``HOST[:PORT]``.
        reporter: for the warning.
        clock: counts the seconds that a helper may take; None for that of this machine.
        on_problem: gets why there is no login, where that is no matter of course, for the error of a registry that
            needs one.

    Returns:
        None where nothing is stored.
    """

    def report(problem: str) -> None:
        problem = f"cannot read docker's stored login for {host}: {problem}"
        reporter.warn(problem)
        on_problem(problem)

    try:
        login = _login(_entry(host, clock or SystemClock(), reporter, report, on_problem))
    except UnreadableError as error:
        report(str(error))
        return None
    if login is not None:
        register_secrets(login.password, login.basic)
    return login


def _entry(
    host: str, clock: Clock, reporter: Reporter, report: Callable[[str], None], on_problem: Callable[[str], None]
) -> Mapping[str, object]:
    """Return what is stored for a registry; {} for nothing. If its helper does not work, the file may have a login.

    Raises:
        UnreadableError: for whatever docker-py raises.
    """
    import docker.auth
    import docker.errors

    try:
        config = stored_configuration()
        helper = config.get_credential_store("docker.io" if host in DOCKER_HUB_HOSTS else host)
        found = None
        if helper is not None:
            try:
                found = _ask_helper(helper, host, clock, reporter)
                if found is None and helper in config.cred_helpers.values():
                    on_problem(f"docker-credential-{helper} {NO_LOGIN} {host}")
            except UnreadableError as error:
                report(str(error))
        if found is None:
            found = docker.auth.AuthConfig({"auths": config.auths}).resolve_authconfig(host)
        return {str(key).lower(): value for key, value in (found or {}).items()}
    except UnreadableError:
        raise
    except CalibanError as error:
        raise UnreadableError(clean_text(one_line(error))) from None
    except Exception as error:  # noqa: BLE001 - the boundary: docker-py reads values without checking their types
        raise UnreadableError(exception_text(error)) from None


def login_key(host: str) -> str:
    """Return what Docker calls a registry where it stores logins."""
    return _DOCKER_HUB_KEY if host in DOCKER_HUB_HOSTS else host


def stored_configuration() -> AuthConfig:
    """Return the logins and helpers of Docker's configuration file.

    Raises:
        UnreadableError: it is not a JSON object.
        Exception: whatever docker-py raises for a malformed one.
    """
    import docker.auth
    import docker.utils.config

    path: str | None = docker.utils.config.find_config_file(None)  # type: ignore[assignment]  # wider in its types
    content = None if path is None else parse_json(input_files.read_bytes(Path(path)))
    if content is None:
        return docker.auth.AuthConfig({})
    if not isinstance(content, dict):
        raise UnreadableError(f"{path} is not a JSON object")
    # An empty configuration would make docker-py read the file itself.
    return docker.auth.AuthConfig.load_config(None, content) if content else docker.auth.AuthConfig({})


def _ask_helper(name: object, host: str, clock: Clock, reporter: Reporter) -> Mapping[str, object] | None:
    try:
        return helper_login(name, login_key(host), clock, reporter)
    except DeadlineExceededError as error:
        raise UnreadableError(f"docker-credential-{name}: {error}") from None


def _login(entry: Mapping[str, object]) -> Login | None:
    """Read an entry. A newline at the end of a secret, as ``echo`` adds it, is not part of it."""
    token, username, password = (entry.get(key) for key in ("identitytoken", "username", "password"))
    if isinstance(token, str) and token.strip():
        return Login(TOKEN_USER, token.strip())
    if isinstance(username, str) and isinstance(password, str) and username:
        return Login(username, password.rstrip("\r\n"))
    return None
