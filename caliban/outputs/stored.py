"""The last output of a job, as the store keeps it (table ``job_logs``)."""

from __future__ import annotations

from dataclasses import dataclass

from caliban.records import OutputError

STORED_BYTES = 64 << 10
"""How much of the end of a job's output the store keeps."""


@dataclass(frozen=True)
class StoredOutput:
    """The end of a job's output, or why there is none. Contains no secret that :mod:`caliban.redaction` recognizes.

    Attributes:
        job_id: ``jobs.id``.
        data: the last :data:`STORED_BYTES`, from the beginning of a line; empty where the job wrote nothing.
        is_complete: whether that is all that the job wrote; of output that is unavailable: whether it will stay so.
        unavailable: why the output could not be fetched, in one line; None where it could.
        error: the last error in it, or None.
    """

    job_id: int
    data: bytes = b""
    is_complete: bool = True
    unavailable: str | None = None
    error: OutputError | None = None
