"""``caliban cluster ls``: the clusters that jobs can be submitted to."""

from __future__ import annotations

import argparse

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.cli.documents import document
from caliban.errors import ExitCode
from caliban.platforms.registry import cluster_directory

_SCHEMA = "caliban.clusters/1"

DESCRIPTION = cluster_directory().CLUSTERS_DESCRIPTION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the clusters, and ``--json``."""
    cluster_directory().add_clusters_arguments(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the clusters."""
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    directory, console = cluster_directory()(platforms.context), context.console
    listing = directory.contexts()
    console.document(document(_SCHEMA, **listing.to_json()))
    console.print(*listing.context_lines())
    listing = directory.with_project(listing)
    console.document(document(_SCHEMA, **listing.to_json()))
    console.print(*listing.project_lines())
    return ExitCode.DONE
