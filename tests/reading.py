"""Read the output of a job as ``caliban logs`` does: from its platform, else from the log file of this machine."""

from __future__ import annotations

from caliban.platforms.base import LogRequest
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, OutputLine
from caliban.submission.output import OutputReader, Source


def read_output(platforms: Platforms, job: JobRecord, request: LogRequest) -> tuple[list[OutputLine], Source | None]:
    """Return the lines, and where they come from.

    Raises:
        CalibanError: why there are none, or not all.
    """
    lines: list[OutputLine] = []
    source = None
    feeds = OutputReader(platforms, request).feeds([job], together=False)
    feeds.start()
    for _, items, end in feeds.in_order(lambda index: True):
        lines += items
        if end is not None:
            source = end.result.source
            if end.result.error is not None:
                raise end.result.error
    return lines, source
