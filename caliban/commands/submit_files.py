"""The files that a submitting command reads before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caliban.cli.context import Context
from caliban.errors import UsageError
from caliban.records import JsonObject


def check_key(key: Path | None) -> None:
    """Check that the key file of ``--cloud_key`` can be read.

    Raises:
        UsageError: ``key-not-found``, ``key-not-readable``.
    """
    from caliban.input_files import InputFileError, open_regular, shortened

    if key is None:
        return
    try:
        with open_regular(key):
            pass
    except InputFileError as error:
        if error.is_missing:
            message = f"key file not found: {shortened(str(key))}"
            raise UsageError("key-not-found", message, hint="see --cloud_key") from error
        message = f"cannot read the key file {shortened(str(key))}"
        raise error.translated(UsageError, "key-not-readable", message) from error


def experiments_to_run(config: str | None, context: Context) -> Sequence[JsonObject]:
    """Return the flags of each experiment that ``--experiment_config`` describes.

    Raises:
        UsageError: the file cannot be read, or is malformed.
    """
    from caliban.submission.experiments import parse_experiments, read_experiments

    if config is None:
        return [{}]
    text, source = read_experiments(config, context.cwd, context.console.read_input)
    return parse_experiments(text, source=source)
