"""How a submitting command creates jobs for a platform: the platform's flags, and job specs made from their values.

``caliban run``, ``cloud`` and ``cluster job submit`` are one command (:mod:`caliban.commands.submit`) with different
launchers; a package that provides a platform can offer a command of its own in the same way (docs/add-a-platform.md).
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from caliban.platforms.base import Platform
from caliban.records import Destination, ImageRef, JsonObject, PlatformId


@dataclass(frozen=True)
class LaunchContext:
    """What a launcher knows beside the flags.

    Attributes:
        user: whose experiments these are.
        cwd: the project's directory, in which the command was called.
        home: the user's home directory.
        environ: the environment variables.
        now: the local time, naive.
        wants_gpu: whether jobs get GPUs where no flag says which.
    """

    user: str
    cwd: Path
    home: Path
    environ: Mapping[str, str]
    now: datetime
    wants_gpu: bool


@dataclass(frozen=True)
class JobPreview:
    """A job that would be submitted.

    Attributes:
        number: which of the jobs submitted together it is, from 1.
        arguments: of the image's entrypoint.
        group: the experiment group's name.
    """

    number: int
    arguments: tuple[str, ...]
    group: str


class Launch(ABC):
    """The jobs that one command line asks for, checked as far as that is possible without a connection.

    Attributes:
        platform: where the jobs go.
    """

    platform: PlatformId

    @abstractmethod
    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """Return the spec of one job, in the shape that the platform records.

        Args:
            number: which of the jobs submitted together it is, from 1.
            arguments: of the image's entrypoint.
            image: what it runs.
        """

    def destination(self, platform: Platform) -> Destination:
        """Return where the jobs run; may ask the platform.

        Raises:
            CalibanError: it cannot be determined.
        """
        return platform.destination(None)

    def fitted(self, platform: Platform, destination: Destination) -> Launch:
        """Return the launch with what the destination requires of jobs; may ask the platform, and reports a change.

        Raises:
            CalibanError: the jobs cannot run there.
        """
        return self

    def chosen(self) -> JsonObject:
        """Return what is known without a connection of where the jobs run, for ``--dry_run``.

        Keys and values are those of :meth:`caliban.records.Destination.to_json`; the others are left out.
        """
        return {}

    def summary_lines(self) -> Sequence[str]:
        """Return what ``--dry_run`` shows of the jobs beside their arguments: ``each job: 2xT4``."""
        return ()

    def warnings(self) -> Sequence[str]:
        """Return what the user should know before anything is built or submitted, a line each."""
        return ()

    def request_text(self, jobs: Sequence[JobPreview], image: ImageRef | None) -> str:
        """Return the requests that would be sent, for ``--dry_run --verbose``; "" for a platform without requests.

        Args:
            jobs: which.
            image: what they run; None for one that is yet to be built.
        """
        return ""


class Exporter(ABC):
    """A launch that writes its jobs to a file instead of submitting them.

    Attributes:
        verb: what ``--dry_run`` says would be done with the jobs: ``exported``.
    """

    @property
    @abstractmethod
    def export_file(self) -> Path | None:
        """The file to write; None where the jobs are to be submitted."""

    @abstractmethod
    def check_export(self) -> None:
        """Check that the file can be written, before anything is built.

        Raises:
            CalibanError: it cannot.
        """

    @abstractmethod
    def export_destination(self, platform: Platform) -> Destination | None:
        """Return what of a destination :meth:`Platform.image_registry` needs to know; nothing is connected to."""

    @abstractmethod
    def export(self, jobs: Sequence[JobPreview], image: ImageRef) -> str:
        """Write the file, and return the line that reports it.

        Raises:
            CalibanError: it could not be written.
        """


class Launcher(ABC):
    """The flags of a submitting command for a platform, and what they come to.

    Attributes:
        image_flag: the flag that names an image to run instead of building one, without dashes; None for a platform
            that needs no images: the command then has no flags for images.
        verb: what happens to the jobs, for ``--dry_run``: ``submitted``, ``run``.
        command_verb: the same in the infinitive: ``submit``.
        title: what the platform is, where the user chooses one of several; "" for nothing.
    """

    image_flag: ClassVar[str | None] = "image_tag"
    verb: ClassVar[str] = "submitted"
    command_verb: ClassVar[str] = "submit"
    title: ClassVar[str] = ""

    @abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the platform's flags, ``image_flag`` if there is one. Import nothing heavy: ``--help`` pays for it."""

    @abstractmethod
    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> Launch:
        """Check the flags.

        Raises:
            UsageError: naming what is wrong.
        """

    def wants_gpu_image(self, args: argparse.Namespace) -> bool | None:
        """Return whether the image is built for GPUs; None to leave it to ``--nogpu`` and the project's default."""
        return None
