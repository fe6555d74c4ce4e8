"""Flags that several commands share, with the same meaning and help text everywhere."""

from __future__ import annotations

import argparse


def add_xgroup(parser: argparse.ArgumentParser, help: str = "experiment group") -> None:
    """Add ``--xgroup XGROUP``."""
    parser.add_argument("--xgroup", help=help)


def add_new_xgroup(parser: argparse.ArgumentParser) -> None:
    """Add ``--xgroup XGROUP`` for commands that create experiments."""
    add_xgroup(parser, "experiment group to add the experiments to (default: a new one, USER-xgroup-DATE-TIME)")


def add_new_attempts(parser: argparse.ArgumentParser) -> None:
    """Add ``--new_attempts``."""
    parser.add_argument(
        "--new_attempts",
        action="store_true",
        help="submit a new attempt of every experiment, also after the same command was interrupted (otherwise, it "
        "then submits only what is missing)",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add ``--dry_run``."""
    parser.add_argument(
        "--dry_run", action="store_true", help="Don't actually submit; log everything that's going to happen."
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, for commands that call :meth:`caliban.cli.console.Console.document`."""
    parser.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="write the result, or the error, to standard output as one JSON document (docs/json.md)",
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add ``-y``, ``--yes``."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")


def add_module(parser: argparse.ArgumentParser) -> None:
    """Add MODULE, the code of an experiment."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="the code to run: a script (cpu.py, trainer/train.py) or a module (trainer.train)",
    )


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that determine the image: ``--nogpu``, ``-d``, ``--extras``, ``--no_cache``."""
    parser.add_argument(
        "--nogpu", action="store_true", help="build and run without GPUs (default_mode in .calibanconfig.json)"
    )
    parser.add_argument(
        "-d",
        "--dir",
        action="append",
        default=[],
        metavar="DIR",
        help="extra directory to copy into the image; may be repeated: directories are added in this order, so name "
        "those that change least first",
    )
    parser.add_argument(
        "--extras",
        action="append",
        default=[],
        metavar="EXTRA",
        help="extra of setup.py or pyproject.toml to install; may be repeated",
    )
    parser.add_argument("--no_cache", action="store_true", help="build the image without the cache of earlier builds")


def add_experiment_config(
    parser: argparse.ArgumentParser,
    help: str = "JSON file with the flags of the experiments, or 'stdin' to read standard input",
) -> None:
    """Add ``--experiment_config FILE``."""
    parser.add_argument("--experiment_config", metavar="FILE", help=help)
