"""The flags of a re-run that say what its images are made of: ``--diff``, ``--no_rebuild``, ``--build_path``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from caliban.errors import UsageError
from caliban.input_files import is_dir, is_file, shortened


@dataclass(frozen=True)
class CodeOptions:
    """What images are made of.

    Attributes:
        no_rebuild: run the recorded images.
        build_path: the directory that the projects have moved to; None: where they were.
        diff: show what changed in the code, in lines.
    """

    no_rebuild: bool = False
    build_path: Path | None = None
    diff: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--no_rebuild", action="store_true", help="run the recorded images; nothing is built")
    parser.add_argument(
        "--build_path",
        metavar="DIR",
        help="build from DIR, where the code is now; remembered",
    )
    parser.add_argument("--diff", action="store_true", help="show what changed in the code since the jobs ran")


def code_options(args: argparse.Namespace, cwd: Path, home: Path) -> CodeOptions:
    """Return what the flags say.

    Raises:
        UsageError: ``conflicting-flags``, ``build-path-not-found``.
    """
    for flag, reason in (
        ("build_path", "it says what to build, and --no_rebuild builds nothing"),
        ("diff", "it compares with what would be built, and --no_rebuild builds nothing"),
    ):
        if args.no_rebuild and getattr(args, flag) not in (None, False):
            raise UsageError(
                "conflicting-flags",
                f"--no_rebuild and --{flag} cannot be combined",
                cause=reason,
                hint="omit one of them",
            )
    path = None if args.build_path is None else _directory(args.build_path, cwd, home)
    return CodeOptions(args.no_rebuild, path, args.diff)


def check_build_path(directory: Path, used: Iterable[Path], scripts: Iterable[str]) -> None:
    """Check that a directory is where one project has moved to.

    Args:
        directory: the value of ``--build_path``.
        used: the directories that the chosen jobs were built from.
        scripts: what they run, relative to their directories.

    Raises:
        UsageError: ``build-path-unused``, ``build-path-ambiguous``, ``build-path-without-script``.
    """
    recorded = sorted({str(each) for each in used})
    if not recorded:
        raise UsageError(
            "build-path-unused",
            "--build_path has no effect: the chosen jobs run existing images",
            hint="remove --build_path",
        )
    moved = [each for each in recorded if each != str(directory)]
    if len(moved) > 1:
        raise UsageError(
            "build-path-ambiguous",
            f"cannot use --build_path: the chosen jobs were built from {len(moved)} directories",
            cause=", ".join(shortened(each) for each in moved),
            hint="choose the jobs of one directory with --job, and run the command once for each directory",
        )
    missing = next((each for each in sorted(set(scripts)) if not is_file(directory / each)), None)
    if missing is not None:
        raise UsageError(
            "build-path-without-script",
            f"cannot use --build_path: {shortened(missing)} not found in {shortened(str(directory))}",
            hint="give the directory that contains it: the one where caliban would be called",
        )


def _directory(text: str, cwd: Path, home: Path) -> Path:
    path = home / text.removeprefix("~").lstrip("/") if text == "~" or text.startswith("~/") else Path(text)
    directory = Path(os.path.normpath(cwd / path))
    if not text or not is_dir(directory):
        raise UsageError(
            "build-path-not-found",
            f'--build_path: directory not found: "{shortened(text)}"',
            hint="give the directory that the project has moved to",
        )
    return directory
