"""Docker's credential helpers: programs that keep logins. They are run with a deadline, and killed at it.

Source: https://github.com/docker/docker-credential-helpers#development
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from caliban.bounded import DeadlineExceededError, parse_json
from caliban.clock import Clock
from caliban.helper_process import HELPER_SECONDS, HelperResult, run_helper
from caliban.redaction import clean_text, exception_text
from caliban.reporter import Reporter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = re.compile(
    # Docker's own helpers, and those that use their Go package; credentials/error.go there
    rb"credentials not found in native keychain|no credentials server URL|no credentials username"
    # macOS, Secret Service, pass
    rb"|specified item could not be found in the keychain|no such secret|is not in the password store",
    re.IGNORECASE,
)
"""What a helper writes for a registry that it has no login for: to its output by its protocol; some write it to the
standard error, or exit with status 0."""

TOKEN_USER = "<token>"
"""The user name that marks an identity token."""


class UnreadableError(Exception):
    """Docker's configuration or a credential helper does not work; the message says why, without a secret."""


def helper_login(
    name: object, key: str, clock: Clock, reporter: Reporter, seconds: float = HELPER_SECONDS
) -> Mapping[str, str] | None:
    """Return what a helper has for a registry, as an entry of Docker's configuration; None where it has nothing.

    Args:
        name: of the helper, as Docker's configuration has it: anything.
        key: the registry, as the helper knows it.
        clock: counts the seconds.
        reporter: gets a line when it takes long.
        seconds: how long it may take.

    Raises:
        UnreadableError: it does not work.
        DeadlineExceededError: it takes longer.
    """
    result = _run((name, "get"), key, clock, reporter, seconds)
    if _has_nothing(result):
        return None
    found = _object(name, result)
    username, secret = found.get("Username"), found.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise UnreadableError(f"{_program(name)} answered without a user name or secret")
    if not username and not secret:
        return None
    return {"identitytoken": secret} if username == TOKEN_USER else {"username": username, "password": secret}


def helper_keys(name: object, clock: Clock, reporter: Reporter, seconds: float) -> list[str]:
    """Return the registries that a helper has logins for.

    Raises:
        UnreadableError: it does not work.
        DeadlineExceededError: it takes longer.
    """
    result = _run((name, "list"), "", clock, reporter, seconds)
    return [] if _has_nothing(result) else list(_object(name, result))


def _run(command: tuple[object, str], stdin: str, clock: Clock, reporter: Reporter, seconds: float) -> HelperResult:
    name, action = command
    program = _program(name)

    def on_slow() -> None:
        reporter.info(f"waiting for {program} (for up to {seconds:.0f} s) ...")

    try:
        return run_helper(
            (program, action), clock, stdin=stdin.encode(), environ=os.environ, seconds=seconds, on_slow=on_slow
        )
    except DeadlineExceededError:
        raise
    except FileNotFoundError:
        raise UnreadableError(f"{program} not installed or not available in PATH") from None
    except PermissionError:
        raise UnreadableError(f"{program} is not executable") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{program}: {exception_text(error)}") from None


def _has_nothing(result: HelperResult) -> bool:
    """Return whether a helper wrote that it has no login, instead of one."""
    output = result.stdout.strip()
    if result.code == 0:
        return not output.startswith(b"{") and _NOT_FOUND.search(output) is not None
    return _NOT_FOUND.search(output or result.stderr) is not None


def _object(name: object, result: HelperResult) -> Mapping[str, object]:
    if result.code != 0:
        raise UnreadableError(f"{_program(name)} exited with status {result.code}: {_reason(result)}")
    try:
        found = parse_json(result.stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnreadableError(f"{_program(name)} did not answer with a JSON object")
    return found


def _program(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnreadableError("the name of its credential helper is malformed")
    return f"docker-credential-{name}"


def _reason(result: HelperResult) -> str:
    text = (result.stderr or result.stdout).decode("utf-8", "replace")
    return " ".join(clean_text(text, limit=300).split())
