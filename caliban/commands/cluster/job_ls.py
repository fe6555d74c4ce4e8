"""``caliban cluster job ls``: the jobs in a namespace, as the cluster reports them."""

from __future__ import annotations

import argparse

from caliban.cli.context import Context
from caliban.errors import ExitCode
from caliban.platforms.registry import cluster_directory

DESCRIPTION = cluster_directory().JOBS_DESCRIPTION
add_arguments = cluster_directory().add_jobs_arguments


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the jobs."""
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    for line in cluster_directory()(platforms.context).job_lines():
        context.console.print(line)
    return ExitCode.DONE
