"""Create jobs on clusters from the flags of a submitting command, or export them. ``--help`` imports nothing heavy."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from caliban.errors import CalibanError, UsageError
from caliban.platforms import resource_flags
from caliban.platforms.base import Platform
from caliban.platforms.flags import add_label, parse_labels
from caliban.platforms.google.projects import named_project
from caliban.platforms.kubernetes.choice import GKE, ClusterChoice, add_cluster_flags
from caliban.platforms.kubernetes.pod_flags import add_limit_flags, add_pod_flags
from caliban.platforms.launch import Exporter, JobPreview, Launch, LaunchContext, Launcher
from caliban.records import Destination, ImageRef, JsonObject, PlatformId

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.job_patch import JobPatch
    from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
    from caliban.platforms.kubernetes.namespace_rules import Resources
    from caliban.platforms.kubernetes.pod_options import PodOptions
    from caliban.platforms.kubernetes.resources import Accelerator, Hardware
    from caliban.platforms.kubernetes.security import Security


@dataclass(frozen=True)
class ClusterLaunch(Launch, Exporter):
    """Jobs for a cluster.

    Attributes:
        platform: GKE, or KUBERNETES for a context of a kubeconfig.
        choice: the cluster and the namespace.
        base: the beginning of the jobs' names.
        hardware: the resources that each job requests.
        chosen_resources: those of ``cpu`` and ``memory`` whose requests the user chose.
        labels: the user's.
        options: what else the user wants of pods.
        security: what the processes of a job may not do; None for no restriction.
        patches: of the jobs.
        resources: what the namespace requires in place of the jobs' own resources, or None.
        cwd: the directory that ``export_name`` is relative to.
        export_name: the file to write instead of submitting the jobs, as the user gave it, or None.
        project: the Google Cloud project that a flag or a variable names, or None.
        kubeconfig: the user's.
    """

    platform: PlatformId
    choice: ClusterChoice
    base: str
    hardware: Hardware
    labels: Mapping[str, str]
    cwd: Path
    export_name: str | None
    project: str | None
    kubeconfig: Kubeconfig
    options: PodOptions
    chosen_resources: frozenset[str] = frozenset()
    security: Security | None = None
    patches: tuple[JobPatch, ...] = ()
    resources: Resources | None = None

    verb: ClassVar[str] = "exported"

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """See :meth:`Launch.job_spec`."""
        from caliban.platforms.kubernetes.job_spec import new_job_spec, with_resources
        from caliban.platforms.kubernetes.tpu_hosts import of_one_host

        spec = new_job_spec(
            base=self.base,
            image=image,
            arguments=arguments,
            hardware=self.hardware,
            labels=self.labels,
            options=self.options,
            security=self.security,
        )
        for patch in self.patches:
            spec = patch.applied(spec)
        if self.resources is not None:
            spec = with_resources(spec, self.resources.requests, self.resources.limits)
        return of_one_host(spec)

    def fitted(self, platform: Platform, destination: Destination) -> ClusterLaunch:
        """Add what the namespace requires: requests and limits for its quotas, and the restricted profile.

        Raises:
            CalibanError: the jobs can never run there, or the cluster would refuse them.
        """
        from caliban.platforms.kubernetes import new_jobs
        from caliban.platforms.kubernetes.details import ClusterDestination
        from caliban.platforms.kubernetes.platform import ClusterPlatform
        from caliban.platforms.kubernetes.security import Security

        assert isinstance(platform, ClusterPlatform)
        assert isinstance(destination, ClusterDestination)
        cluster, namespace = platform.cluster(destination), destination.namespace
        launch = self
        if launch.security is None and new_jobs.needs_restriction(cluster, namespace):
            launch = replace(launch, security=Security())
            platform.context.announce(
                f"the namespace {namespace} accepts no jobs that run as root; if the image does, add --run_as_user 1000"
            )
        resources = new_jobs.fitted(cluster, namespace, launch.job_spec(1, (), _ANY_IMAGE), self.chosen_resources)
        if resources is not None:
            launch = replace(launch, resources=resources)
            rules = f"for the rules of the namespace {namespace}"
            platform.context.announce(f"{rules}, each job has: {resources}; others: --limit_cpu, --limit_mem")
        if self.patches or self.options != type(self.options)():
            new_jobs.check(cluster, namespace, launch.job_spec(1, (), _ANY_IMAGE))
        return launch

    def destination(self, platform: Platform) -> Destination:
        """Look the cluster up: in the kubeconfig, or without a zone, among those of the project."""
        from caliban.platforms.kubernetes.platform import ClusterPlatform

        assert isinstance(platform, ClusterPlatform)
        destination: Destination = platform.choose(self.choice)
        return destination

    def chosen(self) -> JsonObject:
        """Return what the flags say and, for a cluster of the kubeconfig, that does."""
        choice = self.choice
        if choice.cluster_name:
            from caliban.platforms.kubernetes.kubeconfig import DEFAULT_NAMESPACE

            found = {"project": self.project, "location": choice.zone, "cluster": choice.cluster_name}
            found["namespace"] = choice.namespace or DEFAULT_NAMESPACE
        else:
            found = {"context": choice.context, "namespace": choice.namespace}
            with suppress(CalibanError):  # the command itself reports it
                context = self.kubeconfig.context(choice.context)
                found = {"context": context.name, "namespace": choice.namespace or context.namespace}
        return {key: value for key, value in found.items() if value}

    def summary_lines(self) -> Sequence[str]:
        """See :meth:`Launch.summary_lines`."""
        user = f"user {self.security.user}" if self.security and self.security.user else ""
        parts = (str(self.hardware), str(self.options), user, *(f"patch {each.source}" for each in self.patches))
        each_job = f"each job: {', '.join(filter(None, parts))}"
        return (each_job,) if self.export_name else (each_job, f"cluster: {self.choice}")

    def request_text(self, jobs: Sequence[JobPreview], image: ImageRef | None) -> str:
        """Return the jobs as YAML, with placeholders in capitals for what is not known before they are submitted.

        Values of environment variables that look like secrets are hidden.
        """
        from caliban.platforms.kubernetes.details import object_at
        from caliban.platforms.kubernetes.env_secrets import without_secrets
        from caliban.platforms.kubernetes.export import as_yaml

        manifests = self._manifests(jobs, image or "REGISTRY/IMAGE", "TOKEN")
        shown = [{**each, "spec": without_secrets(object_at(each, "spec"))} for each in manifests]
        return "---\n" + as_yaml(shown).rstrip()

    @property
    def export_file(self) -> Path | None:
        """See :attr:`Exporter.export_file`."""
        return self.cwd / self.export_name if self.export_name else None

    def check_export(self) -> None:
        """See :meth:`Exporter.check_export`."""
        from caliban.platforms.kubernetes.export import check_file

        if self.export_file:
            check_file(self.export_file)

    def export_destination(self, platform: Platform) -> Destination | None:
        """Return the project whose registry is the default; None for a cluster of a kubeconfig, which has none."""
        from caliban.platforms.kubernetes.details import GkeDestination
        from caliban.platforms.kubernetes.gke_platform import GkePlatform

        if not isinstance(platform, GkePlatform):
            return None
        name, namespace = str(self.choice.cluster_name), self.choice.namespace or ""
        return GkeDestination(platform.google.project(), self.choice.zone or "", name, namespace=namespace)

    def export(self, jobs: Sequence[JobPreview], image: ImageRef) -> str:
        """See :meth:`Exporter.export`."""
        from caliban.platforms.kubernetes.export import write

        assert self.export_file is not None
        assert self.export_name is not None
        write(self.export_file, self._manifests(jobs, image))
        count = f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"
        return f"wrote {count} to {self.export_name}; submit with: kubectl apply -f {shlex.quote(self.export_name)}"

    def _manifests(self, jobs: Sequence[JobPreview], image: ImageRef, token: str | None = None) -> list[JsonObject]:
        from caliban.platforms.kubernetes.export import exported_job

        specs = ((job.group, self.job_spec(job.number, job.arguments, image)) for job in jobs)
        return [exported_job(spec, group, self.choice.namespace, token) for group, spec in specs]


class ClusterLauncher(Launcher):
    """The flags of ``caliban cluster job submit``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """See :meth:`Launcher.add_arguments`."""
        add_cluster_flags(parser)
        resource_flags.GPU_SPEC.add(
            parser, "GPUs of each job: 2xV100 (GKE), or 2 for any type (default: 1; with --nogpu none)"
        )
        parser.add_argument(
            "--tpu_spec", metavar="COUNTxTYPE", help="TPU chips of each job, of one machine: 4xV5E (GKE)"
        )
        resource_flags.MACHINE_TYPE.add(parser, "machine type of the nodes, such as n1-standard-8")
        resource_flags.MIN_CPU.add(
            parser,
            "CPU request of each job, in thousandths of a CPU; less than a machine has, as system pods need some "
            "(default on GKE: all but one CPU of --machine_type, else 31000, or 1500 with an accelerator; on other "
            "clusters no request)",
        )
        resource_flags.MIN_MEM.add(
            parser,
            "memory request of each job, in MB; less than a machine has (default on GKE without accelerator and "
            "--machine_type: 119000; otherwise no request)",
        )
        add_limit_flags(parser)
        resource_flags.NONPREEMPTIBLE.add(
            parser,
            "on GKE, use regular nodes instead of Spot nodes, which cost less and may be preempted",
        )
        parser.add_argument(
            "--flex_start",
            action="store_true",
            help="on GKE, use nodes with flex start: the job waits until there are machines, which are not preempted",
        )
        parser.add_argument(
            "--image_tag", help="run this image instead of building one; the cluster must be able to pull it"
        )
        parser.add_argument("--name", help="beginning of the jobs' names (default: caliban-USER)")
        add_label(parser)
        add_pod_flags(parser)
        parser.add_argument(
            "--export",
            metavar="FILE",
            help="write the jobs to FILE (.yaml, .yml or .json) for kubectl apply -f instead of submitting them; the "
            "image is built and pushed, unless --image_tag is given",
        )

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> ClusterLaunch:
        """See :meth:`Launcher.prepare`."""
        from caliban.platforms.kubernetes import env_secrets
        from caliban.platforms.kubernetes.job_patch import JobPatch
        from caliban.platforms.kubernetes.job_spec import check_label, job_base
        from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
        from caliban.platforms.kubernetes.pod_options import PodOptions

        choice = ClusterChoice.from_options(vars(args))
        project = named_project(vars(args), context.environ)
        labels = parse_labels(args.label)
        for key, value in labels.items():
            check_label(key, value)
        hardware = _hardware(args, wants_gpu=context.wants_gpu, is_gke=choice.platform == GKE)
        options = PodOptions.from_options(vars(args), context.environ)
        _check_selectors(hardware, options)
        env_secrets.register(options.env)
        launch = ClusterLaunch(
            platform=choice.platform,
            choice=choice,
            base=job_base(args.name or f"caliban-{context.user}"),
            hardware=hardware,
            chosen_resources=frozenset(
                name for name, flag in (("cpu", args.min_cpu), ("memory", args.min_mem)) if flag is not None
            ),
            labels=labels,
            options=options,
            security=_security(args, hardware),
            patches=tuple(JobPatch.read(name, context.cwd) for name in args.job_patch),
            cwd=context.cwd,
            export_name=args.export,
            project=project.id if project else None,
            kubeconfig=Kubeconfig(context.environ, context.home),
        )
        env_secrets.register_spec(launch.job_spec(1, (), _ANY_IMAGE))  # an error now, before anything is built
        return launch

    def wants_gpu_image(self, args: argparse.Namespace) -> bool | None:
        """Return False for TPUs, for which an image needs no CUDA."""
        return False if args.tpu_spec else None


LAUNCHER = ClusterLauncher()

_ANY_IMAGE = "an-image-that-is-yet-to-be-built"


def _hardware(args: argparse.Namespace, *, wants_gpu: bool, is_gke: bool) -> Hardware:
    """Return the resources that each job requests.

    Raises:
        UsageError: the flags contradict each other, or are not supported there.
    """
    from caliban.platforms.kubernetes.resources import Hardware, default_requests

    accelerator = _accelerator(args, wants_gpu=wants_gpu, is_gke=is_gke)
    hardware = Hardware(
        accelerator,
        args.machine_type,
        min_cpu=args.min_cpu,
        min_mem=args.min_mem,
        is_spot=is_gke and not args.nonpreemptible and not args.flex_start,
        is_flex_start=_flex_start(args, is_gke=is_gke),
        limit_cpu=args.limit_cpu,
        limit_mem=args.limit_mem,
    )
    for name, least, limit in (("cpu", args.min_cpu, args.limit_cpu), ("mem", args.min_mem, args.limit_mem)):
        if least is not None and limit is not None and limit < least:
            raise UsageError(
                "limit-below-request",
                f"--limit_{name} {limit} is less than --min_{name} {least}",
                cause="Kubernetes accepts no limit that is less than the request",
                hint=f"use --limit_{name} {least} or more",
            )
    cpu, memory = default_requests(accelerator, args.machine_type) if is_gke else (None, None)
    return replace(
        hardware,
        min_cpu=args.min_cpu or _at_most(cpu, args.limit_cpu),
        min_mem=args.min_mem or _at_most(memory, args.limit_mem),
    )


def _flex_start(args: argparse.Namespace, *, is_gke: bool) -> bool:
    if args.flex_start and not is_gke:
        raise UsageError(
            "flex-start-unavailable",
            "flex start can be requested on GKE only",
            hint="omit --flex_start, or choose a GKE cluster with --cluster_name instead of a context",
        )
    return bool(args.flex_start)


def _at_most(default: int | None, limit: int | None) -> int | None:
    """Return a default request; the limit where that is less, or where there is no default, as Kubernetes does."""
    return limit if default is None else min(default, limit or default)


def _accelerator(args: argparse.Namespace, *, wants_gpu: bool, is_gke: bool) -> Accelerator | None:
    from caliban.platforms.kubernetes.resources import any_gpu, parse_gpu_limit, parse_gpu_spec, parse_tpu_spec

    if args.gpu_spec and (args.nogpu or args.tpu_spec):
        other = "--nogpu" if args.nogpu else "--tpu_spec"
        raise UsageError("gpu-or-not", f"{other} and --gpu_spec cannot be used together")
    limit = parse_gpu_limit(args.gpu_limit) if args.gpu_limit else None
    if limit and (args.nogpu or args.tpu_spec):
        other = "--nogpu" if args.nogpu else "--tpu_spec"
        raise UsageError("gpu-or-not", f"{other} and --gpu_limit cannot be used together")
    if args.tpu_spec:
        return parse_tpu_spec(args.tpu_spec, is_gke=is_gke)
    if args.gpu_spec:
        spec = parse_gpu_spec(args.gpu_spec, is_gke=is_gke)
        if limit and (limit.count, limit.resource) != (spec.count, spec.resource):
            raise UsageError(
                "conflicting-flags",
                f"--gpu_limit {args.gpu_limit} is not what --gpu_spec {args.gpu_spec} requests",
                cause="Kubernetes accepts no limit of GPUs other than the request",
                hint="omit --gpu_limit",
            )
        return spec
    return limit or (any_gpu() if wants_gpu else None)


def _check_selectors(hardware: Hardware, options: PodOptions) -> None:
    """Check that ``--node_selector`` does not contradict the resource flags."""
    for key, value in options.node_selector.items():
        other = hardware.node_selector.get(key, value)
        if other != value:
            raise UsageError(
                "conflicting-flags",
                f"--node_selector {key}={value}: the resources of the job need {key}={other}",
                hint="omit it, or choose other resources (--machine_type, --gpu_spec, --nonpreemptible)",
            )


def _security(args: argparse.Namespace, hardware: Hardware) -> Security | None:
    """Return the restricted profile where it is known that the image allows it.

    That is so for images that are built here, unless by root, who is their user then. TPUs need more on GKE before
    1.28. Source: https://cloud.google.com/kubernetes-engine/docs/how-to/tpus#privileged-mode
    """
    from caliban.platforms.kubernetes.resources import TPU_RESOURCE
    from caliban.platforms.kubernetes.security import Security

    if args.run_as_user is not None:
        return Security(args.run_as_user)
    is_tpu = hardware.accelerator is not None and hardware.accelerator.resource == TPU_RESOURCE
    return None if args.image_tag or is_tpu or os.getuid() == 0 else Security()
