"""What is decided and said before a build: when dependencies are installed, and how package indexes are reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from caliban.images.build_secrets import BuildSecrets, collect_secrets
from caliban.images.context_stream import not_readable, unreadable
from caliban.images.dependency_plan import DependencyPlan, plan_dependencies, unused_files
from caliban.images.spec import BuildSpec
from caliban.input_files import InputFileError
from caliban.reporter import Reporter

_LOCAL_ENGINES = ("unix:", "http+unix:", "npipe:", "/")


@dataclass
class Notices:
    """Warnings and notes, each shown once.

    Attributes:
        reporter: shows them.
    """

    reporter: Reporter
    _shown: set[str] = field(default_factory=set)

    def show(self, warnings: Iterable[str], notes: Iterable[str]) -> None:
        """Show those that were not shown."""
        for warning in warnings:
            if warning not in self._shown:
                self._shown.add(warning)
                self.reporter.warn(warning)
        for note in notes:
            self.info(note)

    def info(self, note: str) -> None:
        """Show a note unless it was shown."""
        if note not in self._shown:
            self._shown.add(note)
            self.reporter.info(note)


def readable_plan(spec: BuildSpec) -> DependencyPlan:
    """Return the plan of a project.

    Raises:
        ImageError: ``context-unreadable``, ``dependency-outside-project``, ``dependency-not-supported``.
        UsageError: ``project-unreadable``.
    """
    try:
        plan = plan_dependencies(spec)
        plan.check()
        if spec.requirements_path is None and spec.conda_env_path is None and spec.setup_extras is None:
            warning = unused_files(spec.build_path)
            return plan if warning is None else replace(plan, warnings=(*plan.warnings, warning))
        return plan
    except OSError as error:
        raise unreadable(error) from error
    except InputFileError as error:
        raise not_readable(error) from error


def secrets_of(spec: BuildSpec, plan: DependencyPlan, environ: Mapping[str, str], host: str) -> BuildSecrets:
    """Return what the steps that install packages need; nothing for an image without dependencies.

    Args:
        spec: what is built.
        plan: which dependencies are installed when.
        environ: the environment variables.
        host: the engine's endpoint.
    """
    if spec.requirements_path is None and spec.conda_env_path is None and spec.setup_extras is None:
        return BuildSecrets()
    secrets = collect_secrets(environ, variables=plan.variables, urls=plan.urls, indexes=plan.indexes)
    if secrets.uses_this_machine and not host.startswith(_LOCAL_ENGINES):
        warning = f"a package index is at an address of this machine, which the Docker Engine at {host} cannot reach"
        return replace(secrets, warnings=(*secrets.warnings, warning), uses_this_machine=False)
    return secrets
