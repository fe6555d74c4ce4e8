"""``--dry_run`` of the submitting commands: what the command would do. Nothing is connected to, and nothing written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.cli import render
from caliban.cli.context import Context
from caliban.errors import CalibanError
from caliban.images.context_warnings import context_warnings
from caliban.images.spec import BuildSpec, ImageSpec

if TYPE_CHECKING:
    from caliban.commands.submit import Request
    from caliban.records import ExperimentRecord
    from caliban.submission.batches import Decision
    from caliban.submission.in_doubt import OpenSubmissions


@dataclass(frozen=True)
class Forecast:
    """What a command would submit.

    Attributes:
        xgroup: the experiment group.
        experiments: which of the experiments.
        lines: what else it would do.
    """

    xgroup: str
    experiments: Sequence[ExperimentRecord]
    lines: Sequence[str] = ()


def show(request: Request, context: Context, args: argparse.Namespace, *, exporting: bool) -> None:
    """Print what would happen, and that nothing did."""
    console, launcher = context.console, request.launcher
    verb, command_verb = ("exported", "export") if exporting else (launcher.verb, launcher.command_verb)
    forecast = Forecast(request.xgroup, request.previews()) if exporting else _forecast(request, context, args)
    if forecast.experiments:
        console.print(f"the following jobs would be {verb}, in the experiment group {forecast.xgroup}:")
    else:
        console.print(f"no jobs would be {verb} in the experiment group {forecast.xgroup}")
    for experiment in forecast.experiments:
        console.print(render.command_line(experiment))
    console.print(*forecast.lines)
    console.print("")
    for line in _image_lines(request, context):
        console.print(line)
    for line in request.launch.summary_lines():
        console.print(line)
    for warning in request.launch.warnings():
        console.warn(warning)
    if isinstance(request.source, BuildSpec) and launcher.image_flag is not None:
        for warning in context_warnings(request.source):
            console.warn(warning)
    if getattr(args, "verbose", False):
        image = request.source.image if isinstance(request.source, ImageSpec) else None
        text = request.launch.request_text(request.jobs(), image)
        if text:
            console.print(*text.splitlines())
    undone = f"nothing was {'written' if exporting else verb}"
    to_do = f": to {command_verb} these jobs, run this command without --dry_run" if forecast.experiments else ""
    console.print("", f"{undone}{to_do}")


def _image_lines(request: Request, context: Context) -> Sequence[str]:
    source = request.source
    if isinstance(source, ImageSpec):
        return (f"container image: {source.image}",)
    directory = render.short_path(str(source.build_path), context.home)
    if request.launcher.image_flag is None:
        return (f"directory: {directory}",)
    return (f"container image: would be built from {directory} (job_mode: {source.job_mode})",)


def _forecast(request: Request, context: Context, args: argparse.Namespace) -> Forecast:
    """Read store and journal, and decide as the command would.

    Where exactly jobs go may only be known to their platform, as the id of a cluster. It is assumed that they go where
    those of an unfinished batch went, unless what is known says otherwise.
    """
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.batches import RecordedDestination, decide, probable, unfinished_batch
    from caliban.submission.in_doubt import read_open
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
    typed, xgroup = request.typed(context.user, RecordedDestination(request.launch.chosen())), request.xgroup
    if request.new_attempts:
        return Forecast(xgroup, request.previews())
    try:
        with open_store(store_url(context.environ, context.home), Access.READ, context.console) as store:
            typed = probable(store, typed, context.clock)
            unfinished = unfinished_batch(store, typed, context.clock)
            xgroup = unfinished.group if unfinished else xgroup
            left = read_open(store, platforms, context.user, xgroup)
            still_open = [*left.in_progress, *left.in_doubt, *left.unsent]
            decision = decide(store, typed, xgroup, context.clock, still_open)
    except CalibanError as error:
        return Forecast(xgroup, request.previews(), (f"cannot be submitted now: {error.message}",))
    experiments = [each for each in request.previews() if decision.kind_of(each) is not None]
    return Forecast(xgroup, experiments, _lines(decision, left))


def _lines(decision: Decision, left: OpenSubmissions) -> Sequence[str]:
    lines = [decision.preview] if decision.preview else []
    if left.in_doubt:
        what = render.count(len(left.in_doubt), "submission")
        lines.append(f"{what} of an interrupted command would be looked up first; what exists is not submitted again")
    return lines
