"""Create jobs on clusters from the flags of a submitting command, or export them. ``--help`` imports nothing heavy."""

from __future__ import annotations

import argparse
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
from caliban.platforms.kubernetes.choice import GKE, ClusterChoice, add_cluster_flags
from caliban.platforms.launch import Exporter, JobPreview, Launch, LaunchContext, Launcher
from caliban.records import Destination, ImageRef, JsonObject, PlatformId

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
    from caliban.platforms.kubernetes.resources import Accelerator, Hardware


@dataclass(frozen=True)
class ClusterLaunch(Launch, Exporter):
    """Jobs for a cluster.

    Attributes:
        platform: GKE, or KUBERNETES for a context of a kubeconfig.
        choice: the cluster and the namespace.
        base: the beginning of the jobs' names.
        hardware: the resources that each job requests.
        labels: the user's.
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

    verb: ClassVar[str] = "exported"

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """See :meth:`Launch.job_spec`."""
        from caliban.platforms.kubernetes.job_spec import new_job_spec

        return new_job_spec(
            base=self.base, image=image, arguments=arguments, hardware=self.hardware, labels=self.labels
        )

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
        each_job = f"each job: {self.hardware}"
        return (each_job,) if self.export_name else (each_job, f"cluster: {self.choice}")

    def request_text(self, jobs: Sequence[JobPreview], image: ImageRef | None) -> str:
        """Return the jobs as YAML, with placeholders in capitals for what is not known before they are submitted."""
        from caliban.platforms.kubernetes.export import as_yaml

        return "---\n" + as_yaml(self._manifests(jobs, image or "REGISTRY/IMAGE", "TOKEN")).rstrip()

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
        resource_flags.NONPREEMPTIBLE.add(
            parser,
            "on GKE, use regular nodes instead of Spot nodes, which cost less and may be preempted",
        )
        parser.add_argument(
            "--image_tag", help="run this image instead of building one; the cluster must be able to pull it"
        )
        parser.add_argument("--name", help="beginning of the jobs' names (default: caliban-USER)")
        add_label(parser)
        parser.add_argument(
            "--export",
            metavar="FILE",
            help="write the jobs to FILE (.yaml, .yml or .json) for kubectl apply -f instead of submitting them; the "
            "image is built and pushed, unless --image_tag is given",
        )

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> ClusterLaunch:
        """See :meth:`Launcher.prepare`."""
        from caliban.platforms.kubernetes.job_spec import check_label, job_base
        from caliban.platforms.kubernetes.kubeconfig import Kubeconfig

        choice = ClusterChoice.from_options(vars(args))
        labels = parse_labels(args.label)
        for key, value in labels.items():
            check_label(key, value)
        return ClusterLaunch(
            platform=choice.platform,
            choice=choice,
            base=job_base(args.name or f"caliban-{context.user}"),
            hardware=_hardware(args, wants_gpu=context.wants_gpu, is_gke=choice.platform == GKE),
            labels=labels,
            cwd=context.cwd,
            export_name=args.export,
            project=args.project_id or context.environ.get("PROJECT_ID"),
            kubeconfig=Kubeconfig(context.environ, context.home),
        )

    def wants_gpu_image(self, args: argparse.Namespace) -> bool | None:
        """Return False for TPUs, for which an image needs no CUDA."""
        return False if args.tpu_spec else None


LAUNCHER = ClusterLauncher()


def _hardware(args: argparse.Namespace, *, wants_gpu: bool, is_gke: bool) -> Hardware:
    """Return the resources that each job requests.

    Raises:
        UsageError: the flags contradict each other, or are not supported there.
    """
    from caliban.platforms.kubernetes.resources import Hardware, default_requests

    accelerator = _accelerator(args, wants_gpu=wants_gpu, is_gke=is_gke)
    is_spot = is_gke and not args.nonpreemptible
    hardware = Hardware(accelerator, args.machine_type, min_cpu=args.min_cpu, min_mem=args.min_mem, is_spot=is_spot)
    if not is_gke:
        return hardware
    cpu, memory = default_requests(accelerator, args.machine_type)
    return replace(hardware, min_cpu=args.min_cpu or cpu, min_mem=args.min_mem or memory)


def _accelerator(args: argparse.Namespace, *, wants_gpu: bool, is_gke: bool) -> Accelerator | None:
    from caliban.platforms.kubernetes.resources import any_gpu, parse_gpu_spec, parse_tpu_spec

    if args.gpu_spec and (args.nogpu or args.tpu_spec):
        other = "--nogpu" if args.nogpu else "--tpu_spec"
        raise UsageError("gpu-or-not", f"{other} and --gpu_spec cannot be used together")
    if args.tpu_spec:
        return parse_tpu_spec(args.tpu_spec, is_gke=is_gke)
    if args.gpu_spec:
        return parse_gpu_spec(args.gpu_spec, is_gke=is_gke)
    return any_gpu() if wants_gpu else None
