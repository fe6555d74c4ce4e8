"""Why a registry denies access: the login is missing, has expired, is wrong, or may not do what is requested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, unique

from caliban.errors import ImageError
from caliban.images.registry.auth import NO_LOGIN, Login

# "denied: Your authorization token has expired. Reauthenticate and try again." (Amazon ECR, aws/aws-cli#6580),
# "personal access token is expired" (Docker Hub), "token is expired by 5m" (Go libraries for JSON web tokens),
# "The provided security token ... is expired" (AWS). RFC 6750, 3.1: error="invalid_token".
_EXPIRED = re.compile(
    r"\b(?:token|login|credentials?|password|jwt|security token)\b[^.;\n]{0,60}\b(?:has |have |is |was |are )?"
    r"expired\b|\bexpired\b[^.;\n]{0,20}\b(?:token|login|credentials?|password|jwt)\b",
    re.IGNORECASE,
)
# "incorrect username or password" (Docker Hub), "User cannot be authenticated with the token provided" (ghcr.io),
# "HTTP Basic: Access denied. ..." (GitLab), "Invalid Username or Password" (Quay), "invalid username/password",
# "Could not find robot with username" (Quay), "unauthorized: bad credentials" (Nexus, Artifactory).
_REJECTED = re.compile(
    r"(?:incorrect|invalid|wrong|bad) (?:user ?name|login|password|credentials?)|cannot be authenticated"
    r"|HTTP Basic: Access denied|robot .{0,80}(?:not be found|not found|disabled)|could not find robot",
    re.IGNORECASE,
)
# "access token has insufficient scopes" (Docker Hub), "The token provided does not match expected scopes" (ghcr.io).
_SCOPE = re.compile(r"insufficient[ _]scope|does not match expected scopes", re.IGNORECASE)
# GitLab's message of a rejected login names every possible reason; certificates of servers expire too.
_NOT_OF_LOGINS = re.compile(
    r"incorrect, expired, or improperly scoped|certificates? (?:has|have|is|was|are)? ?expired", re.IGNORECASE
)


@unique
class Refusal(Enum):
    """Why access was denied."""

    EXPIRED = "expired"
    MISSING = "missing"
    REJECTED = "rejected"
    DENIED = "denied"


@dataclass(frozen=True)
class LoginState:
    """The login of a request, for messages.

    Attributes:
        host: ``HOST[:PORT]`` of the registry.
        user: who logged in; None without a login, ``""`` where only a token is known.
        hint: how to log in.
        problems: why a stored login could not be read.
    """

    host: str
    user: str | None
    hint: str
    problems: tuple[str, ...] = ()


def is_expired(words: str) -> bool:
    """Return whether a registry's message reports an expired login."""
    return _EXPIRED.search(_NOT_OF_LOGINS.sub("", words)) is not None


def login_user(login: Login | None) -> str | None:
    """Return the user of a login as it may be shown."""
    return None if login is None else "" if login.is_identity_token else login.username


def refusal(words: str, user: str | None, *, is_login_rejected: bool = False) -> Refusal:
    """Return why access was denied.

    Args:
        words: the registry's message.
        user: as in :class:`LoginState`.
        is_login_rejected: whether the login itself was rejected, as the status of the answer says.
    """
    if is_expired(words):
        return Refusal.EXPIRED
    if user is None:
        return Refusal.MISSING
    is_rejected = (is_login_rejected and not _SCOPE.search(words)) or _REJECTED.search(words)
    return Refusal.REJECTED if is_rejected else Refusal.DENIED


def _repair(problems: tuple[str, ...]) -> str:
    """Return what to do about a stored login that cannot be read. ``docker login`` needs the helper, too."""
    if any(NO_LOGIN in problem for problem in problems):
        return "check the account that the credential helper uses, or remove the helper from docker's config.json"
    if any("docker-credential-" in problem for problem in problems):
        return 'repair the credential helper, or remove it ("credsStore", "credHelpers") from docker\'s config.json'
    return "correct docker's config.json"


def refused(
    words: str, action: str, denied: str, access_hint: str, state: LoginState, *, is_login_rejected: bool = False
) -> ImageError:
    """Return the error for a push that is not allowed (``push-refused``).

    Args:
        words: the registry's message, without secrets.
        action: what failed: ``cannot push the image``.
        denied: what follows it where the login may not push.
        access_hint: what to do then.
        state: the login.
        is_login_rejected: as for :func:`refusal`.
    """
    why = refusal(words, state.user, is_login_rejected=is_login_rejected)
    if why is Refusal.DENIED:
        return ImageError("push-refused", f"{action}: {denied}", cause=words, hint=access_hint)
    cause = "\n".join((words, *state.problems))
    of_user = f" of {state.user}" if state.user else ""
    message = {
        Refusal.EXPIRED: f"the login{of_user} for {state.host} has expired",
        Refusal.MISSING: f"no login for {state.host}",
        Refusal.REJECTED: f"{state.host} rejected the login{of_user}",
    }[why]
    hint = state.hint
    if why is Refusal.MISSING and state.problems:
        hint = f"{_repair(state.problems)}; {hint}"
    return ImageError("push-refused", f"{action}: {message}", cause=cause, hint=hint)
