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


def read_experiments(config: str | None, context: Context) -> Sequence[JsonObject]:
    """Return the flags of each experiment that ``--experiment_config`` describes.

    Raises:
        UsageError: the file cannot be read, or is malformed.
    """
    from caliban.input_files import InputFileError, read_text
    from caliban.submission.experiments import MAX_BYTES, parse_experiments, unreadable

    if config is None:
        return [{}]
    is_stdin = config == "stdin"
    source = "standard input" if is_stdin else config
    try:
        text = context.console.read_input(MAX_BYTES) if is_stdin else read_text(context.cwd / config, limit=MAX_BYTES)
    except InputFileError as error:
        raise unreadable(source, error) from error
    return parse_experiments(text, source=source)
