"""Where the output of a job is on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from caliban.records import JobRecord

_LOGS = Path(".caliban") / "logs"
_SUFFIX = ".log"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,249}")
"""What names a file in one directory, and nothing else: a row of the store may have been written by anyone."""


def logs_dir(home: Path) -> Path:
    """Return the directory of log files: ``~/.caliban/logs``."""
    return home / _LOGS


def log_name(name: str | None) -> str | None:
    """Return the file name for the output of the job ``name``; None where that cannot be one of ours."""
    return f"{name}{_SUFFIX}" if name is not None and _NAME.fullmatch(name) else None


def log_path(home: Path, job: JobRecord) -> Path | None:
    """Return where the output of a job is, if this machine has it: ``~/.caliban/logs/<name>.log``.

    Returns:
        None for a job without a name of ours, as those of caliban 0.4.2.
    """
    name = log_name(job.details.display_name)
    return None if name is None else logs_dir(home) / name
