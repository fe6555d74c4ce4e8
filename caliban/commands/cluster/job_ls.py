"""``caliban cluster job ls``: the jobs of a cluster's namespace, as the cluster shows them."""

from __future__ import annotations

import argparse

from caliban.cli.context import Context
from caliban.commands.cluster.destination import add_place_flags
from caliban.errors import ExitCode

DESCRIPTION = (
    "List the jobs of a cluster's namespace, caliban's and others', the newest first. The experiment store is not "
    "asked: see caliban status for experiments."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster and namespace."""
    add_place_flags(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Ask the cluster, print."""
    from caliban.commands.cluster.destination import cluster_platform, find_place
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(
        context.environ, context.home, context.console, project_id=args.project_id, cloud_key=args.cloud_key
    )
    place = find_place(args, context, platforms)
    platform = cluster_platform(platforms, place.platform)
    platform.connect(place.target)
    jobs = platform.listing(place.target)
    where = f"{platform.cluster(place.target).name}, namespace {place.target['namespace']}"
    context.console.print(f"jobs of the {where}:" if jobs else f"no jobs in the {where}")
    width = max((len(job.name) for job in jobs), default=0)
    for job in jobs:
        group = f"  group: {job.group}" if job.group else ""
        reason = f"  ({job.reason})" if job.reason else ""
        context.console.print(f"  {job.name:{width}}  {job.status:9}  {job.created}{group}{reason}")
    return ExitCode.DONE
