"""``caliban build``: build the container image of a script or module, and nothing else."""

from __future__ import annotations

import argparse
from dataclasses import replace

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.cli.documents import document
from caliban.errors import ExitCode

DESCRIPTION = "Build the container image of a script or module, as caliban run does, and print its id."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what goes into an image, and MODULE."""
    flags.add_image_flags(parser)
    flags.add_json(parser)
    flags.add_module(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Build, and print the image's id."""
    from caliban.commands.image_options import build_spec, job_mode
    from caliban.images.image_platform import platform_of_local_jobs
    from caliban.submission.setup import build_user, make_platforms

    spec = build_spec(args, context, job_mode(args, context))
    engine = make_platforms(context.environ, context.home, context.console).context.engine()
    spec = replace(spec, image_platform=platform_of_local_jobs(context.environ))
    image = engine.build(spec, build_user(context.user), context.console, no_cache=args.no_cache)
    context.console.print(image)
    context.console.document(document("caliban.build/1", image=image))
    return ExitCode.DONE
