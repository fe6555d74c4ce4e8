"""``--docker_run_args`` as a user types it, for ``caliban run`` and for re-runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caliban.errors import UsageError
from caliban.platforms.docker.job_spec import client_flags, located_arguments
from caliban.platforms.docker.run_arguments import RunArguments, RunArgumentsError, parse_typed


@dataclass(frozen=True)
class TypedArguments:
    """What was typed.

    Attributes:
        words: as they are recorded: as they were typed, unless paths in them had to be made absolute.
        parsed: with absolute paths.
        warnings: about what jobs would not find.
    """

    words: tuple[str, ...]
    parsed: RunArguments
    warnings: tuple[str, ...]


def typed_arguments(text: str, cwd: Path, home: Path, environ: Mapping[str, str]) -> TypedArguments:
    """Parse and check the arguments.

    Raises:
        UsageError: ``malformed-docker-run-args``, ``docker-run-args-rejected``.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(
            "malformed-docker-run-args",
            f'cannot split --docker_run_args "{text}"',
            cause=str(error),
            hint="check the quotes",
        ) from error
    try:
        given = parse_typed(words, lambda: client_flags(environ))
        located, warnings = located_arguments(given, cwd, home, environ)
    except RunArgumentsError as error:
        raise UsageError(
            "docker-run-args-rejected",
            f"--docker_run_args: {error.problem}",
            hint=error.hint,
        ) from error
    return TypedArguments(words if located.words == given.words else located.words, located, tuple(warnings))


def check_timeout(arguments: RunArguments) -> None:
    """Check that somebody waits for a job that has a time limit.

    Raises:
        UsageError: ``timeout-without-waiting``.
    """
    if arguments.detaches:
        raise UsageError(
            "timeout-without-waiting",
            "--timeout cannot be used with --detach",
            cause="a job is stopped at its timeout by the command that waits for it",
            hint="remove --detach from --docker_run_args",
        )
