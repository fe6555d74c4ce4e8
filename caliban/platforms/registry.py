"""The platforms by id: those of this package, and those that installed packages provide.

A package provides a platform by an entry point; its name is the platform's id, its value a subclass of
:class:`caliban.platforms.base.Platform`::

    [project.entry-points."caliban.platforms"]
    SUBPROCESS = "my_package.platform:SubprocessPlatform"

Importing this module imports no platform, and listing jobs imports only the parsers of their details.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from caliban.entry_points import entry_points
from caliban.errors import CalibanError, PlatformError
from caliban.history import Resources
from caliban.platforms.context import PlatformContext
from caliban.platforms.usage import usage_of
from caliban.records import JobDetails, JobRecord, JobStatus, JsonObject, PlatformId

if TYPE_CHECKING:
    from caliban.images.secret_files import SecretFiles
    from caliban.platforms.base import Platform
    from caliban.platforms.kubernetes.directory import ClusterDirectory
    from caliban.platforms.launch import Launcher

ENTRY_POINT_GROUP = "caliban.platforms"

ParseDetails = Callable[[JobStatus, JsonObject], JobDetails]


@dataclass(frozen=True)
class Entry:
    """A platform that can be used; nothing of it is imported yet.

    Attributes:
        id: the platform's id.
        platform: where its class is: ``package.module:Class``.
        details: where the parser of its job details is: ``package.module:function``; None for the class's own.
        plugin: the package that provides it, or None for ours.
        problem: why it cannot be used, or None.
    """

    id: PlatformId
    platform: str
    details: str | None = None
    plugin: str | None = None
    problem: str | None = None


def _built_in(id: PlatformId, package: str, platform: str) -> Entry:
    return Entry(id, f"caliban.platforms.{package}.{platform}", f"caliban.platforms.{package}.details:parse_details")


_BUILT_IN: Mapping[PlatformId, Entry] = {
    entry.id: entry
    for entry in (
        _built_in("LOCAL", "docker", "platform:DockerPlatform"),
        _built_in("CAIP", "caip", "platform:CaipPlatform"),
        _built_in("VERTEX", "vertex", "platform:VertexPlatform"),
        Entry(
            "GKE",
            "caliban.platforms.kubernetes.gke_platform:GkePlatform",
            "caliban.platforms.kubernetes.details:parse_gke_details",
        ),
        Entry(
            "KUBERNETES",
            "caliban.platforms.kubernetes.kubeconfig_platform:KubeconfigPlatform",
            "caliban.platforms.kubernetes.details:parse_kubeconfig_details",
        ),
    )
}

_LAUNCHERS: Mapping[str, Mapping[str, str]] = {
    "run": {"local": "caliban.platforms.docker.launch:LAUNCHER"},
    "cloud": {
        "vertex": "caliban.platforms.vertex.launch:LAUNCHER",
        "caip": "caliban.platforms.caip.launch:LAUNCHER",
    },
    "cluster job submit": {"cluster": "caliban.platforms.kubernetes.launch:LAUNCHER"},
}
"""Submitting command -> the launchers to choose from, by the value of ``--platform``; the first is the default."""

MIGRATION_TARGETS: Mapping[str, PlatformId] = {"vertex": "VERTEX"}
"""Value of ``resubmit --platform`` -> the platform, a :class:`caliban.platforms.migration.MigrationTarget`."""

_CLUSTER_DIRECTORY = "caliban.platforms.kubernetes.directory:ClusterDirectory"

_SECRET_FILES = (
    "caliban.platforms.google.secret_files:SECRET_FILES",
    "caliban.platforms.kubernetes.secret_files:SECRET_FILES",
)


class UnsupportedPlatformError(PlatformError):
    """No platform of that id is installed."""

    @property
    def is_permanent(self) -> bool:
        """See :attr:`caliban.errors.PlatformError.is_permanent`."""
        return True


def find(id: PlatformId) -> Entry | None:
    """Return the platform of that id, of ours or of an installed package; None where there is none."""
    return _BUILT_IN.get(id) or _plugins().get(id)


def platform_class(id: PlatformId) -> type[Platform]:
    """Import a platform's class.

    Raises:
        PlatformError: ``platform-not-supported``; ``broken-plugin``, for a package whose class cannot be used.
    """
    entry = find(id)
    if entry is None:
        raise UnsupportedPlatformError(
            "platform-not-supported",
            f"this installation of caliban cannot use the platform {id}",
            hint="its jobs are listed with their recorded state; install the package that provides it, or upgrade "
            "caliban",
        )
    if entry.plugin is None:
        return cast("type[Platform]", _imported(entry.platform))
    return _plugin_class(entry)


def without_names(id: PlatformId, destination: JsonObject) -> JsonObject:
    """Return what tells a stored destination of a platform from others; see :meth:`Platform.without_names`."""
    try:
        return platform_class(id).without_names(destination)
    except PlatformError:  # reported for each job that is to be submitted there
        return destination


def details_at(id: PlatformId, destination: JsonObject) -> JobDetails:
    """Return the details of a job of which only its destination is recorded; see :meth:`Platform.details_at`."""
    try:
        return platform_class(id).details_at(destination)
    except PlatformError:  # reported for each job that is to be submitted there
        return JobDetails()


def usage(id: PlatformId, spec: JsonObject) -> Mapping[str, int]:
    """Return what a job of a platform occupies while it runs; see :meth:`Platform.usage`."""
    try:
        return platform_class(id).usage(spec)
    except PlatformError:  # reported for each job that is to be submitted there
        return usage_of({})


def resources_of(job: JobRecord) -> Resources:
    """Return the resources of a job; none of a platform that does not name them, or that is unknown."""
    from caliban.platforms.resources import ChangesResources

    try:
        found = platform_class(job.platform)
        if not issubclass(found, ChangesResources):
            return Resources()
        with _plugin_errors(find(job.platform)):
            return Resources(found.resource_settings(job.spec, job.details), found.resource_paths)
    except PlatformError:  # what changed is listed by its place in the job spec
        return Resources()


def has_capability(id: PlatformId, capability: type) -> bool:
    """Return whether the platform's class is a subclass of ``capability``; False for an unknown platform."""
    try:
        return issubclass(platform_class(id), capability)
    except PlatformError:  # reported for each job that is to be submitted there
        return False


def needs_image(id: PlatformId) -> bool:
    """Return whether jobs of the platform run in container images; True for an unknown platform."""
    try:
        return platform_class(id).needs_image
    except PlatformError:  # reported for each job that is to be submitted there
        return True


@cache
def _parser(id: PlatformId) -> ParseDetails:
    """Return the parser of a platform. A listing shows the jobs of unknown and broken ones, with their raw details."""
    entry = find(id)
    if entry is not None and entry.details is not None:
        return cast(ParseDetails, _imported(entry.details))
    try:
        parse = platform_class(id).parse_details
    except PlatformError:
        return lambda status, raw: JobDetails(raw)

    def parse_safely(status: JobStatus, raw: JsonObject) -> JobDetails:
        try:
            return parse(status, raw)
        except Exception:  # noqa: BLE001 - another package's code can raise anything
            return JobDetails(raw)

    return parse_safely


def parse_details(id: PlatformId, status: JobStatus, raw: JsonObject) -> JobDetails:
    """Read the stored details of a job of any platform; those of an unknown platform have no typed values."""
    return _parser(id)(status, raw)


def launchers(command: str) -> dict[str, Launcher]:
    """Import the launchers of a submitting command, by the value of ``--platform``; the first is the default."""
    return {name: cast("Launcher", _imported(place)) for name, place in _LAUNCHERS[command].items()}


def cluster_directory() -> type[ClusterDirectory]:
    """Import what lists the clusters that jobs can be submitted to, and the jobs there. It imports nothing heavy."""
    return cast("type[ClusterDirectory]", _imported(_CLUSTER_DIRECTORY))


def secret_files() -> SecretFiles:
    """Return which files of a project are secrets, by the rules of every platform."""
    from caliban.images.secret_files import GENERIC

    found: Iterable[SecretFiles] = (cast("SecretFiles", _imported(place)) for place in _SECRET_FILES)
    combined = GENERIC
    for each in found:
        combined = combined.combined(each)
    return combined


class Platforms:
    """The platforms of one command, each imported and created when it is first used.

    Attributes:
        context: the process.
        asked_for_output: the ids of the jobs whose output the command has asked for.
    """

    def __init__(self, context: PlatformContext) -> None:
        self.context = context
        self.asked_for_output: set[int] = set()
        self._created: dict[PlatformId, Platform] = {}

    def get(self, id: PlatformId) -> Platform:
        """Return the platform of that id.

        Raises:
            PlatformError: ``platform-not-supported``, ``broken-plugin``.
        """
        if id not in self._created:
            created = platform_class(id)
            with _plugin_errors(find(id)):
                self._created[id] = created(self.context)
        return self._created[id]


@cache
def _plugins() -> Mapping[PlatformId, Entry]:
    """Return the platforms of installed packages, none of them imported. A built-in id cannot be replaced."""
    found: dict[PlatformId, Entry] = {}
    for point in entry_points(ENTRY_POINT_GROUP)[0]:  # a damaged package is reported by caliban help
        package = point.dist.name if point.dist else "an unknown package"
        other = found.get(point.name)
        if other is not None:
            problem = f"{other.plugin} and {package} provide a platform of this id"
            found[point.name] = replace(other, problem=problem)
        elif point.name not in _BUILT_IN:
            found[point.name] = Entry(point.name, point.value, plugin=package)
    return found


def _plugin_class(entry: Entry) -> type[Platform]:
    """Import the class of another package, and check that it is a platform."""
    from caliban.platforms.base import Platform

    with _plugin_errors(entry):
        if entry.problem is not None:
            raise ImportError(entry.problem)
        found = _imported(entry.platform)
        if not (isinstance(found, type) and issubclass(found, Platform)):
            raise TypeError(f"{entry.platform} is not a subclass of {Platform.__module__}.{Platform.__qualname__}")
        if missing := sorted(found.__abstractmethods__):
            raise TypeError(f"{entry.platform} does not implement {', '.join(missing)}")
        if found.id != entry.id:
            raise ValueError(f"{entry.platform} has the id {found.id}")
        return found


@contextmanager
def _plugin_errors(entry: Entry | None) -> Iterator[None]:
    """Raise ``broken-plugin`` for whatever the code of another package raises."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if entry is None or entry.plugin is None or isinstance(error, CalibanError):
            raise
        raise PlatformError(
            "broken-plugin",
            f"cannot use the platform {entry.id} of the package {entry.plugin}",
            cause=f"{type(error).__name__}: {error}",
            hint=f"update or remove the package {entry.plugin}; all other platforms work",
        ) from error


def _imported(place: str) -> object:
    module, _, attribute = place.partition(":")
    found: object = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found
