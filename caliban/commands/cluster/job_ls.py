"""``caliban cluster job ls``: the jobs in a namespace, as the cluster reports them."""

from __future__ import annotations

import argparse

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.cli.documents import document
from caliban.errors import ExitCode
from caliban.platforms.registry import cluster_directory

DESCRIPTION = cluster_directory().JOBS_DESCRIPTION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the clusters, and ``--json``."""
    cluster_directory().add_jobs_arguments(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the jobs."""
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    listing = cluster_directory()(platforms.context).jobs()
    context.console.document(lambda: document("caliban.cluster-jobs/1", **listing.to_json()))
    for line in listing.lines():
        context.console.print(line)
    return ExitCode.DONE
