"""Projects to build, and a reporter that records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from caliban.config import load_config
from caliban.images.package import Package
from caliban.images.spec import BuildSpec
from caliban.records import JobMode


@dataclass
class RecordingReporter:
    """Keeps everything that is reported."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    titles: list[tuple[str, int | None, str]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def info(self, *lines: str) -> None:
        self.lines.extend(lines)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("a build has no job output")

    @contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[RecordingReporter]:
        self.titles.append((title, total, unit))
        self.done.append(0)
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done[-1] += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Project:
    """A directory to build from."""

    directory: Path
    base_image: str

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def spec(
        self, module: str = "cpu.py", *, extra_dirs: tuple[str, ...] = (), setup_extras: tuple[str, ...] = ()
    ) -> BuildSpec:
        return BuildSpec.detect(
            self.directory,
            Package.parse(module, self.directory),
            job_mode=JobMode.CPU,
            config=load_config(self.directory),
            extra_dirs=extra_dirs,
            setup_extras=setup_extras,
        )
