"""The project in the current directory: what its image is made of, by the flags of a command and the files there."""

from __future__ import annotations

import argparse

from caliban.cli.context import Context
from caliban.config import load_config, redact_user
from caliban.errors import UsageError
from caliban.images.package import Package
from caliban.images.registry.names import lower_case_name
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import JobMode


def job_mode(args: argparse.Namespace, context: Context, wants_gpu: bool | None = None) -> JobMode:
    """Return the mode of the image.

    Args:
        args: with ``--nogpu``.
        context: in which directory.
        wants_gpu: what other flags say; None leaves it to ``--nogpu`` and ``default_mode`` of ``.calibanconfig.json``.

    Raises:
        UsageError: the file is malformed.
    """
    config = load_config(context.cwd)
    if wants_gpu is None:
        return JobMode.CPU if args.nogpu else config.default_mode
    return JobMode.GPU if wants_gpu else JobMode.CPU


def build_spec(args: argparse.Namespace, context: Context, mode: JobMode) -> BuildSpec:
    """Return what to build, for MODULE and the flags of :func:`caliban.cli.flags.add_image_flags`.

    Raises:
        UsageError: MODULE, a flag or ``.calibanconfig.json`` is wrong.
    """
    return BuildSpec.detect(
        context.cwd,
        Package.parse(args.module, context.cwd),
        job_mode=mode,
        config=load_config(context.cwd),
        extra_dirs=args.dir,
        setup_extras=args.extras,
    )


def image_spec(image: str, args: argparse.Namespace, context: Context) -> ImageSpec:
    """Return the spec of an existing image. MODULE says what it runs, for people: the image knows by itself.

    Raises:
        UsageError: ``image-name-malformed``.
    """
    if (lower := lower_case_name(image)) != image:
        raise UsageError(
            "image-name-malformed",
            f'invalid name of an image: "{redact_user(image)}"',
            cause="names of images are in lower case; only the tag may have capitals",
            hint=f"use {redact_user(lower)}",
        )
    try:
        package = Package.parse(args.module, context.cwd)
    except UsageError:
        package = Package(("python",), ".", args.module)
    return ImageSpec(image, package)
