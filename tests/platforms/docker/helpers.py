"""What tests of the Docker platform observe."""

from __future__ import annotations

from contextlib import AbstractContextManager

from caliban.reporter import Progress


class OutputReporter:
    """Keeps the output of jobs, and warnings."""

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.warnings: list[str] = []
        self.lines: list[str] = []

    def info(self, *lines: str) -> None:
        self.lines.extend(lines)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        if is_stderr:
            self.err += data
        else:
            self.out += data

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        raise AssertionError(f"unexpected: {title}")
