"""Flags that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from caliban.errors import UsageError


def add_xgroup(parser: argparse.ArgumentParser, help: str = "experiment group") -> None:
    """``--xgroup XGROUP``."""
    parser.add_argument("--xgroup", help=help)


def add_new_xgroup(parser: argparse.ArgumentParser) -> None:
    """``--xgroup XGROUP`` of commands that make experiments."""
    add_xgroup(parser, "the experiment group to add the experiments to; without it, one is made: USER-xgroup-DATE-TIME")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """``--dry_run``."""
    parser.add_argument(
        "--dry_run", action="store_true", help="Don't actually submit; log everything that's going to happen."
    )


def add_project_id(parser: argparse.ArgumentParser) -> None:
    """``--project_id PROJECT_ID``."""
    parser.add_argument(
        "--project_id",
        help="ID of the GCloud AI Platform/GKE project to use for Cloud job submission and image persistence. "
        "(Defaults to $PROJECT_ID; errors if both the argument and $PROJECT_ID are empty.)",
    )


def add_cloud_key(parser: argparse.ArgumentParser) -> None:
    """``--cloud_key CLOUD_KEY``."""
    parser.add_argument(
        "--cloud_key",
        type=Path,
        help="Path to GCloud service account key. (Defaults to $GOOGLE_APPLICATION_CREDENTIALS.)",
    )


def add_label(parser: argparse.ArgumentParser) -> None:
    """``-l KEY=VALUE``, ``--label KEY=VALUE``."""
    parser.add_argument(
        "-l", "--label", action="append", default=[], metavar="KEY=VALUE", help="a label for the jobs; may be repeated"
    )


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """What ``--label`` was given.

    Raises:
        UsageError: ``malformed-label``.
    """
    labels = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError("malformed-label", f"{text!r} is not a label", hint="write KEY=VALUE: --label team=vision")
        labels[key] = value
    return labels


def at_least(least: int) -> Callable[[str], int]:
    """The ``type`` of a flag that takes a whole number, ``least`` or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"a whole number, {least} or more, is wanted, not {text!r}")
        return int(text)

    return number


def add_yes(parser: argparse.ArgumentParser) -> None:
    """``--yes``."""
    parser.add_argument("--yes", action="store_true", help="answer the question with yes, for use in scripts")


def add_module(parser: argparse.ArgumentParser) -> None:
    """MODULE, the code of an experiment."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="the code to run: a script (cpu.py, trainer/train.py) or a module (trainer.train)",
    )


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """What goes into the image: ``--nogpu``, ``-d``, ``--extras``, ``--no_cache``."""
    parser.add_argument(
        "--nogpu", action="store_true", help="build and run without GPUs (default_mode in .calibanconfig.json)"
    )
    parser.add_argument(
        "-d",
        "--dir",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder to put into the image beside the code; several are added in the order given, "
        "so name the ones that change least first",
    )
    parser.add_argument(
        "--extras",
        action="append",
        default=[],
        metavar="EXTRA",
        help="an extra of setup.py (or pyproject.toml) to install; may be given several times",
    )
    parser.add_argument("--no_cache", action="store_true", help="build the image from scratch")


def add_experiment_config(parser: argparse.ArgumentParser) -> None:
    """``--experiment_config FILE``."""
    parser.add_argument(
        "--experiment_config",
        metavar="FILE",
        help="the flags of the experiments as JSON, or 'stdin' to read that from standard input",
    )
