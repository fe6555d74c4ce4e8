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


@dataclass(frozen=True)
class Preview:
    """What ``--dry_run`` shows.

    Attributes:
        forecast: what would be submitted.
        verb: what would happen to the jobs: ``submitted``.
        command_verb: the same in the infinitive: ``submit``.
        undone: what did not happen: ``submitted``, ``written``.
        warnings: what the user should know.
        requests: the requests as text, with ``--verbose``; "" without.
    """

    forecast: Forecast
    verb: str
    command_verb: str
    undone: str
    warnings: Sequence[str]
    requests: str


def show(request: Request, context: Context, args: argparse.Namespace, *, exporting: bool) -> None:
    """Print what would happen, and that nothing did."""
    from caliban.commands.submit_documents import plan_document

    preview = _preview(request, context, args, exporting=exporting)
    console, forecast = context.console, preview.forecast
    console.document(lambda: plan_document(preview, request))
    if forecast.experiments:
        console.print(f"the following jobs would be {preview.verb}, in the experiment group {forecast.xgroup}:")
    else:
        console.print(f"no jobs would be {preview.verb} in the experiment group {forecast.xgroup}")
    console.print(*(render.command_line(experiment) for experiment in forecast.experiments))
    console.print(*forecast.lines, "", *_image_lines(request, context), *request.launch.summary_lines())
    for warning in preview.warnings:
        console.warn(warning)
    console.print(*preview.requests.splitlines())
    command = f"to {preview.command_verb} these jobs, run this command without --dry_run"
    console.print("", f"nothing was {preview.undone}{f': {command}' if forecast.experiments else ''}")


def _preview(request: Request, context: Context, args: argparse.Namespace, *, exporting: bool) -> Preview:
    launcher, launch = request.launcher, request.launch
    forecast = Forecast(request.xgroup, request.previews()) if exporting else _forecast(request, context, args)
    warnings = list(launch.warnings())
    if isinstance(request.source, BuildSpec) and launcher.image_flag is not None:
        warnings += context_warnings(request.source)
    requests = ""
    if getattr(args, "verbose", False):
        image = request.source.image if isinstance(request.source, ImageSpec) else None
        requests = launch.request_text(request.jobs(), image)
    if exporting:
        return Preview(forecast, "exported", "export", "written", warnings, requests)
    return Preview(forecast, launcher.verb, launcher.command_verb, launcher.verb, warnings, requests)


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
