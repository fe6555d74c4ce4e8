"""The project in the current folder: what its image is made of, by the flags of a command and the files there."""

from __future__ import annotations

import argparse

from caliban.cli.context import Context
from caliban.config import load_config
from caliban.errors import UsageError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import JobMode


def job_mode(args: argparse.Namespace, context: Context) -> JobMode:
    """CPU with ``--nogpu``, else ``default_mode`` of ``.calibanconfig.json``.

    Raises:
        UsageError: the file is wrong.
    """
    config = load_config(context.cwd)
    return JobMode.CPU if args.nogpu else config.default_mode


def build_spec(args: argparse.Namespace, context: Context) -> BuildSpec:
    """What to build, for MODULE and the flags of :func:`caliban.cli.flags.add_image_flags`.

    Raises:
        UsageError: MODULE, a flag or ``.calibanconfig.json`` is wrong.
    """
    return BuildSpec.detect(
        context.cwd,
        Package.parse(args.module, context.cwd),
        job_mode=job_mode(args, context),
        config=load_config(context.cwd),
        extra_dirs=args.dir,
        setup_extras=args.extras,
    )


def image_spec(image: str, args: argparse.Namespace, context: Context) -> ImageSpec:
    """An image that is there already. MODULE names what it runs, for people: the image knows by itself."""
    try:
        package = Package.parse(args.module, context.cwd)
    except UsageError:
        package = Package(("python",), ".", args.module)
    return ImageSpec(image, package)
