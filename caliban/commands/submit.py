"""The one submitting command: ``run``, ``cloud`` and ``cluster job submit`` are instances of it.

What differs between them, flags and job specs, is the platform's :class:`~caliban.platforms.launch.Launcher`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from caliban.cli import flags, render
from caliban.cli.context import Context
from caliban.cli.outcomes import report_outcomes
from caliban.errors import ExitCode, UsageError
from caliban.records import ContainerRecord, Destination, ExperimentRecord
from caliban.waiting.flags import WaitOptions, add_wait_flags, wait_options

if TYPE_CHECKING:
    from caliban.images.spec import BuildSpec, ImageSpec
    from caliban.platforms.base import Platform
    from caliban.platforms.launch import Exporter, JobPreview, Launch, Launcher
    from caliban.platforms.registry import Platforms
    from caliban.records import GroupRecord, Outcome
    from caliban.store.database import Store
    from caliban.store.queries import FlagSet
    from caliban.submission.batches import Decision, TypedCommand
    from caliban.submission.images import Images
    from caliban.submission.pipeline import ReadyJob
    from caliban.submission.preflight import Route
    from caliban.waiting.dispatching import FurtherJobs

Launchers = Callable[[], "Mapping[str, Launcher]"]


@dataclass(frozen=True)
class Request:
    """What the command line asks for, checked.

    Attributes:
        xgroup: the experiment group's name.
        names_xgroup: whether the user named it.
        source: the image to build, or to use.
        flag_sets: the arguments and flags of each experiment.
        launch: where the jobs go, and their specs.
        launcher: what it was made by.
        no_cache: build every layer of the image again.
        new_attempts: submit all experiments, also if the same command was interrupted.
        wait: how to wait for the jobs; None for a command that ends when they are submitted, or have run here.
    """

    xgroup: str
    names_xgroup: bool
    source: BuildSpec | ImageSpec
    flag_sets: Sequence[FlagSet]
    launch: Launch
    launcher: Launcher
    no_cache: bool
    new_attempts: bool
    wait: WaitOptions | None = None

    def previews(self) -> list[ExperimentRecord]:
        """Return the experiments as they would be, without ids."""
        container = ContainerRecord(0, self.source.as_record())
        return [ExperimentRecord(0, args, kwargs, container) for args, kwargs in self.flag_sets]

    def typed(self, user: str, destination: Destination) -> TypedCommand:
        """Return what makes another command the same."""
        from caliban.submission.batches import TypedCommand

        group = self.xgroup if self.names_xgroup else None
        record = self.source.as_record()
        return TypedCommand(user, group, record, self.flag_sets, self.launch.platform, destination)

    def jobs(self) -> list[JobPreview]:
        """Return the jobs as they would be."""
        from caliban.platforms.launch import JobPreview

        return [JobPreview(number, each.arguments, self.xgroup) for number, each in enumerate(self.previews(), 1)]


@dataclass(frozen=True)
class SubmitCommand:
    """A submitting command.

    Attributes:
        DESCRIPTION: what ``--help`` says below the usage line.
        launchers: imports the launchers to choose from, by the value of ``--platform``; the first is the default. The
            flag exists where there are several.
        shows_requests: whether ``--verbose`` exists.
        waits: whether it runs jobs here, and waits for them.
        TAKES_SCRIPT_ARGS: whether arguments after ``--`` are passed to the code.
        CHANGES_JOBS: see :class:`caliban.cli.command_table.Command`.
    """

    DESCRIPTION: str
    launchers: Launchers = field(repr=False)
    shows_requests: bool = True
    waits: bool = False
    TAKES_SCRIPT_ARGS: bool = True
    CHANGES_JOBS: bool = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags of every submitting command, those of the platforms, and MODULE."""
        launchers = self.launchers()
        flags.add_new_xgroup(parser)
        if next(iter(launchers.values())).image_flag is None:
            parser.set_defaults(nogpu=True, dir=[], extras=[], no_cache=False)
        else:
            flags.add_image_flags(parser)
        flags.add_experiment_config(parser)
        if len(launchers) > 1:
            default = next(iter(launchers))
            titles = "; ".join(f"{name}: {each.title}" for name, each in launchers.items() if each.title)
            parser.add_argument(
                "--platform",
                choices=list(launchers),
                help=f"where the jobs run{f' ({titles})' if titles else ''}; "
                f"default: cloud_platform in .calibanconfig.json, else {default}",
            )
        next(iter(launchers.values())).add_arguments(parser)
        add_wait_flags(parser, waits_anyway=self.waits)
        flags.add_new_attempts(parser)
        flags.add_dry_run(parser)
        flags.add_json(parser)
        if self.shows_requests:
            parser.add_argument("-v", "--verbose", action="store_true", help="with --dry_run: show the requests")
        flags.add_module(parser)

    def run(self, args: argparse.Namespace, context: Context) -> int:
        """Check everything, build, push, submit; or show or export the jobs."""
        from caliban.platforms.launch import Exporter
        from caliban.submission.setup import make_platforms

        request = self._request(args, context)
        exporter = request.launch if isinstance(request.launch, Exporter) and request.launch.export_file else None
        if exporter:
            if request.wait:
                raise UsageError("conflicting-flags", "--wait: jobs that are exported are not submitted")
            exporter.check_export()
        if args.dry_run:
            from caliban.commands.preview import show

            show(request, context, args, exporting=exporter is not None)
            return ExitCode.DONE
        platforms = make_platforms(context.environ, context.home, context.console, vars(args), context.clock)
        if exporter:
            return _export(request, exporter, context, platforms)
        return _submit(request, context, platforms)

    def describe_under_way(self, context: Context) -> Sequence[str]:
        """Return the open submissions of this process, for the report of an unforeseen error."""
        from caliban.submission.under_way import open_lines

        return open_lines(context.environ, context.home, context.user, context.console)

    def _request(self, args: argparse.Namespace, context: Context) -> Request:
        """Check everything that can be checked without a connection.

        Raises:
            UsageError: naming what is wrong.
        """
        from caliban.commands.image_options import build_spec, image_spec, job_mode
        from caliban.commands.submit_files import check_key, experiments_to_run
        from caliban.platforms.launch import LaunchContext
        from caliban.records import JobMode

        launcher = self._launcher(args, context)
        mode = job_mode(args, context, launcher.wants_gpu_image(args))
        launch_context = LaunchContext(
            context.user, context.cwd, context.home, context.environ, context.now(), mode is JobMode.GPU
        )
        check_key(getattr(args, "cloud_key", None))
        image = getattr(args, launcher.image_flag) if launcher.image_flag else None
        return Request(
            xgroup=args.xgroup or f"{context.user}-xgroup-{context.now():%Y-%m-%d-%H-%M-%S}",
            names_xgroup=bool(args.xgroup),
            source=image_spec(image, args, context) if image else build_spec(args, context, mode),
            flag_sets=[(args.script_args, kwargs) for kwargs in experiments_to_run(args.experiment_config, context)],
            launch=launcher.prepare(args, launch_context),
            launcher=launcher,
            no_cache=args.no_cache,
            new_attempts=args.new_attempts,
            wait=wait_options(args),
        )

    def _launcher(self, args: argparse.Namespace, context: Context) -> Launcher:
        from caliban.config import CONFIG_FILE, load_config

        launchers = self.launchers()
        name = getattr(args, "platform", None)
        if name is None and len(launchers) > 1:
            name = load_config(context.cwd).cloud_platform
            if name is not None and name not in launchers:
                raise UsageError(
                    "malformed-config",
                    f'{CONFIG_FILE}: unknown cloud_platform "{name}"',
                    hint=f"use one of: {', '.join(launchers)}",
                )
        return launchers[name] if name else next(iter(launchers.values()))


def _export(request: Request, exporter: Exporter, context: Context, platforms: Platforms) -> int:
    """Build and push the image, and write the jobs to a file. Nothing is submitted or recorded."""
    from caliban.commands.submit_documents import export_document
    from caliban.images.spec import BuildSpec
    from caliban.submission.preflight import check_registry_name

    platform = platforms.get(request.launch.platform)
    check_registry_name(platform, request.source)
    images = _images(request, context, platforms)
    if isinstance(request.source, BuildSpec):
        platforms.context.engine()
        destination = exporter.export_destination(platform)
        registry = platform.image_registry(request.source.config, destination)
        if registry is not None:
            registry.check()
        image = images.get(_image_source(request, platform), platform, registry)
    else:
        image = request.source.image
    context.console.info(exporter.export(request.jobs(), image))
    context.console.document(lambda: export_document(request, exporter, image))
    return ExitCode.DONE


def _image_source(request: Request, platform: Platform) -> BuildSpec | ImageSpec:
    """Return the source of the image that all jobs run."""
    from caliban.submission.images import image_source

    return image_source(request.source, platform, request.launch.job_spec(1, (), "image"))


def _images(request: Request, context: Context, platforms: Platforms) -> Images:
    from caliban.submission.images import Images
    from caliban.submission.setup import build_user

    return Images(platforms.context, build_user(context.user), no_cache=request.no_cache)


def _submit(request: Request, context: Context, platforms: Platforms) -> int:
    """Check the destination, build, push, submit, follow, report.

    Raises:
        CalibanError: nothing was submitted.
        InterruptedSubmissionError: after Ctrl-C; what had been submitted by then was reported.
    """
    from caliban.commands.submit_documents import submit_document
    from caliban.platforms.base import ForegroundPlatform
    from caliban.platforms.registry import has_capability
    from caliban.store.address import store_url
    from caliban.store.database import Access, open_store
    from caliban.submission.pipeline import submit_jobs
    from caliban.submission.removal import remove_ended
    from caliban.submission.submit import InterruptedSubmissionError, Submitter
    from caliban.waiting.dispatching import FurtherJobs, split

    launch = request.launch
    # `caliban run train.py > out` holds what train.py writes
    context.console.listing_to_stderr = has_capability(launch.platform, ForegroundPlatform)
    for warning in launch.warnings():
        context.console.warn(warning)
    platform = platforms.get(launch.platform)
    request, route = _checked(request, platform)
    with open_store(store_url(context.environ, context.home), Access.WRITE, context.console) as store:
        request, decision, is_in_doubt = _decide(request, route, context, platforms, store)
        if decision.line:
            context.console.info(decision.line)
        if not decision.kinds:
            return _nothing_left(request, decision, context, platforms, store, is_in_doubt=is_in_doubt)
        submitter = Submitter(store, platforms, context.console, context.user, command=decision.command)
        images = _images(request, context, platforms)
        request = replace(request, source=_image_source(request, platform))
        images.get(request.source, platform, route.registry)  # without an image, no experiment is created
        group = _add_experiments(request, context, store)
        first, rest = split(_ready_jobs(request, route, decision, group), request.wait, images)
        remove_ended((job.experiment.latest for job in first if job.experiment.latest), store, platforms)
        submitter.finishes = not rest
        try:
            outcomes = submit_jobs(first, images, submitter)
        except InterruptedSubmissionError as interrupted:
            outcomes, not_started = list(interrupted.outcomes), interrupted.not_started + len(rest)
            report_outcomes(context.console, outcomes, request.xgroup, not_started=not_started)
            raise
        finally:  # what was submitted is reported whatever ended it
            known = submitter.outcomes
            context.console.document(lambda: submit_document(request, known, len(first) + len(rest) - len(known)))
    further = FurtherJobs(first, images, submitter.since, rest, decision.command)
    return _ended(request, outcomes, group, context, platforms, further, is_in_doubt=is_in_doubt)


def _checked(request: Request, platform: Platform) -> tuple[Request, Route]:
    """Check that the jobs could be submitted, and fit them to what their destination requires."""
    from caliban.submission.boundary import platform_errors
    from caliban.submission.preflight import Preflight

    launch = request.launch
    route = Preflight().route(
        platform,
        request.source,
        lambda: launch.destination(platform),
        lambda: launch.job_spec(1, (), "an-image-that-is-yet-to-be-built"),
    )
    with platform_errors(platform.id, "check what a destination requires"):
        return replace(request, launch=launch.fitted(platform, route.destination)), route


def _nothing_left(
    request: Request, decision: Decision, context: Context, platforms: Platforms, store: Store, *, is_in_doubt: bool
) -> int:
    """Finish the batch of an interrupted command that submitted everything; with ``--wait``, wait for its jobs."""
    from caliban.commands.submit_documents import submit_document
    from caliban.store.journal import Journal

    if decision.continued is not None:
        Journal(store).finish(decision.continued.batch.id)
    context.console.document(lambda: submit_document(request, (), 0))
    group = _add_experiments(request, context, store) if request.wait else None
    store.close()
    return _ended(request, [], group, context, platforms, is_in_doubt=is_in_doubt)


def _ended(
    request: Request,
    outcomes: Sequence[Outcome],
    group: GroupRecord | None,
    context: Context,
    platforms: Platforms,
    further: FurtherJobs | None = None,
    *,
    is_in_doubt: bool,
) -> int:
    """Report the outcomes; with ``--wait``, when the jobs have ended, those of an interrupted command too."""
    from caliban.commands.submit_documents import submit_document
    from caliban.waiting.submitted import Submitted, wait_for

    if request.wait is None or group is None:
        code = report_outcomes(context.console, outcomes, request.xgroup) if outcomes else ExitCode.DONE
        return ExitCode.NOT_DONE if is_in_doubt else code
    return wait_for(
        Submitted(request.xgroup, outcomes, frozenset(experiment.id for experiment in group.experiments)),
        request.wait,
        context,
        platforms,
        lambda found, rest: context.console.document(lambda: submit_document(request, found, rest)),
        further,
    )


def _decide(
    request: Request, route: Route, context: Context, platforms: Platforms, store: Store
) -> tuple[Request, Decision, bool]:
    """Settle interrupted submissions, and decide what is submitted.

    This comes before images are built, which may take long: what others submit meanwhile is not submitted again.

    Returns:
        The request with its group; what is submitted; whether jobs of the group may be running that an interrupted
        command submitted.

    Raises:
        StoreError: ``already-being-submitted``: the same command is running.
    """
    from caliban.submission.batches import all_again, decide, unfinished_batch
    from caliban.submission.in_doubt import reconcile_open, report_doubt

    typed = request.typed(context.user, route.destination)
    clock = context.clock
    unfinished = None if request.new_attempts else unfinished_batch(store, typed, clock)
    if unfinished is not None:
        request = replace(request, xgroup=unfinished.group)
    left = reconcile_open(store, platforms, context.user, request.xgroup)
    report_doubt(left.in_doubt, context.console)
    is_in_doubt = bool(left.in_doubt)
    if request.new_attempts:
        return request, all_again(typed), is_in_doubt
    still_open = [*left.in_progress, *left.in_doubt, *left.unsent]
    return request, decide(store, typed, request.xgroup, clock, still_open), is_in_doubt


def _add_experiments(request: Request, context: Context, store: Store) -> GroupRecord:
    """Return the group with the experiments of the command; it and they are created where they are missing."""
    from caliban.submission.groups import add_experiments

    group = add_experiments(store, context.user, request.xgroup, request.source.as_record(), request.flag_sets)
    context.console.info(f"experiment group {group.name}: {render.count(len(group.experiments), 'experiment')}")
    return group


def _ready_jobs(request: Request, route: Route, decision: Decision, group: GroupRecord) -> list[ReadyJob]:
    """Return a job for each experiment to submit."""
    from caliban.submission.pipeline import ReadyJob

    make_spec = request.launch.job_spec
    return [
        ReadyJob(experiment, request.source, route, partial(make_spec, number, experiment.arguments), kind)
        for number, experiment in enumerate(group.experiments, 1)
        if (kind := decision.kind_of(experiment)) is not None
    ]
