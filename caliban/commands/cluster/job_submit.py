"""``caliban cluster job submit``: experiments as jobs on a Kubernetes cluster."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.commands.cluster.destination import add_place_flags
from caliban.errors import ExitCode, UsageError
from caliban.records import ExperimentRecord, ImageRef, JobMode, JsonObject, PlatformName

if TYPE_CHECKING:
    from caliban.commands.launch import Launch
    from caliban.platforms.base import Platforms
    from caliban.platforms.kubernetes.resources import Accelerator, Hardware

DESCRIPTION = (
    "Build a container image of a script or module, push it, and submit it to a Kubernetes cluster once for each set "
    "of flags. Arguments after -- are passed to it as they are."
)
TAKES_SCRIPT_ARGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster, the flags of jobs there, and MODULE."""
    add_place_flags(parser)
    flags.add_new_xgroup(parser)
    flags.add_image_flags(parser)
    parser.add_argument(
        "--gpu_spec",
        metavar="COUNTxTYPE",
        help="the GPUs of each job: 2xV100 (GKE), or 2 for any type (default: one of any type; none: --nogpu)",
    )
    parser.add_argument(
        "--tpu_spec", metavar="COUNTxTYPE", help="the TPU chips of each job, those of one machine: 4xV5E (GKE)"
    )
    parser.add_argument("--machine_type", help="the machine that each job runs on, such as n1-standard-8")
    parser.add_argument(
        "--min_cpu",
        type=flags.at_least(1),
        metavar="MILLICPUS",
        help="the CPU that each job needs, in thousandths; a node's own programs take some of its CPU, so ask for less "
        "than a machine has (default on GKE: all but one CPU of --machine_type, else 31000, with an accelerator 1500; "
        "elsewhere nothing is asked for)",
    )
    parser.add_argument(
        "--min_mem",
        type=flags.at_least(1),
        metavar="MB",
        help="the memory that each job needs, in MB; ask for less than a machine has (default on GKE without "
        "accelerator and --machine_type: 119000; else nothing is asked for)",
    )
    parser.add_argument(
        "--nonpreemptible",
        action="store_true",
        help="on GKE, run on nodes that are not taken away, instead of Spot nodes, which cost less",
    )
    parser.add_argument("--image_tag", help="run this image, which the cluster can get, instead of building one")
    parser.add_argument("--name", help="what the jobs' names begin with (default: caliban-USER)")
    flags.add_label(parser)
    flags.add_experiment_config(parser)
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write the jobs to FILE (.yaml, .yml or .json) for kubectl apply -f, and submit nothing; the image is "
        "built and pushed, unless --image_tag names one",
    )
    flags.add_dry_run(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="with --dry_run: show the jobs as YAML")
    flags.add_module(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything, build, push, submit; or export."""
    from caliban.commands.cluster.destination import find_place, platform_meant
    from caliban.commands.launch import show, start
    from caliban.submission.setup import make_platforms

    platform = platform_meant(args)
    hardware = _hardware(args, context, is_gke=bool(args.cluster_name))
    launch = _launch(args, context, platform, hardware)
    if args.export:
        from caliban.commands.cluster.export import check_file

        check_file(context.cwd / args.export)
    if args.dry_run:
        show(launch, context, "exported" if args.export else "submitted")
        context.console.print(f"each job: {hardware}")
        if not args.export:
            context.console.print(f"cluster: {_cluster_words(args)}")
        if args.verbose:
            _show_manifests(launch, args, context)
        verb, undone = ("export", "written") if args.export else ("submit", "submitted")
        context.console.print(
            f"\nnothing was {undone}: to actually {verb} these jobs, run this command again without --dry_run"
        )
        return ExitCode.DONE
    platforms = make_platforms(
        context.environ, context.home, context.console, project_id=args.project_id, cloud_key=args.cloud_key
    )
    if args.export:
        return _export(launch, args, context, platforms)
    place = find_place(args, context, platforms)
    return start(launch, context, platforms, place.target)


def _launch(args: argparse.Namespace, context: Context, platform: PlatformName, hardware: Hardware) -> Launch:
    from caliban.commands.launch import read_launch
    from caliban.platforms.kubernetes.job_spec import check_label, job_base, new_job_spec

    labels = flags.parse_labels(args.label)
    for key, value in labels.items():
        check_label(key, value)
    base = job_base(args.name or f"caliban-{context.user}")

    def job_spec(number: int, experiment: ExperimentRecord, image: ImageRef) -> JsonObject:
        return new_job_spec(base=base, image=image, arguments=experiment.arguments, hardware=hardware, labels=labels)

    # An image for TPUs has no use for CUDA.
    args_of_image = argparse.Namespace(**{**vars(args), "nogpu": args.nogpu or bool(args.tpu_spec)})
    return read_launch(args_of_image, context, image=args.image_tag, platform=platform, job_spec=job_spec)


def _hardware(args: argparse.Namespace, context: Context, *, is_gke: bool) -> Hardware:
    """What the jobs ask of their nodes.

    Raises:
        UsageError: it contradicts itself, or cannot be asked for there.
    """
    from caliban.platforms.kubernetes.resources import Hardware, default_requests

    accelerator = _accelerator(args, context, is_gke=is_gke)
    hardware = Hardware(
        accelerator,
        args.machine_type,
        min_cpu=args.min_cpu,
        min_mem=args.min_mem,
        is_spot=is_gke and not args.nonpreemptible,
    )
    if not is_gke:
        return hardware
    cpu, memory = default_requests(accelerator, args.machine_type)
    return replace(hardware, min_cpu=args.min_cpu or cpu, min_mem=args.min_mem or memory)


def _accelerator(args: argparse.Namespace, context: Context, *, is_gke: bool) -> Accelerator | None:
    from caliban.commands.image_options import job_mode
    from caliban.platforms.kubernetes.resources import any_gpu, parse_gpu_spec, parse_tpu_spec

    if args.gpu_spec and (args.nogpu or args.tpu_spec):
        other = "--nogpu" if args.nogpu else "--tpu_spec"
        raise UsageError("gpu-or-not", f"{other} and --gpu_spec contradict each other", hint="leave one of them out")
    if args.tpu_spec:
        return parse_tpu_spec(args.tpu_spec, is_gke=is_gke)
    if args.gpu_spec:
        return parse_gpu_spec(args.gpu_spec, is_gke=is_gke)
    return any_gpu() if job_mode(args, context) is JobMode.GPU else None


def _export(launch: Launch, args: argparse.Namespace, context: Context, platforms: Platforms) -> int:
    """Build and push the image, and write the jobs. No cluster is asked, and nothing recorded."""
    from caliban.cli import render
    from caliban.commands.cluster.destination import cluster_platform
    from caliban.commands.cluster.export import manifests, write
    from caliban.commands.launch import bring_image, check_registry

    platform = cluster_platform(platforms, launch.platform)
    check_registry(launch, platform)
    image = bring_image(launch, context, platform, {} if args.image_tag else platform.image_target())
    jobs = manifests(launch, image, args.namespace)
    write(context.cwd / args.export, jobs)
    context.console.info(f"{render.count(len(jobs), 'job')} written to {args.export}: kubectl apply -f {args.export}")
    return ExitCode.DONE


def _cluster_words(args: argparse.Namespace) -> str:
    """Which cluster is meant, as far as that is known without asking anybody."""
    if args.cluster_name:
        return f"{args.cluster_name} on GKE"
    return f"that of the context {args.context}" if args.context else "that of the kubeconfig's current context"


def _show_manifests(launch: Launch, args: argparse.Namespace, context: Context) -> None:
    """Print each job whole, with words in capitals for what is not known before it is made."""
    from caliban.commands.cluster.export import as_yaml, manifests

    jobs = manifests(launch, args.image_tag or "REGISTRY/IMAGE", args.namespace, token="TOKEN")
    context.console.print("---\n" + as_yaml(jobs).rstrip())
