"""Check where jobs go before anything is built, and each destination and registry once.

What the checks find out (a :class:`Route`) is what the submission uses: nothing is checked a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from caliban.errors import CalibanError
from caliban.images.registry.push import Registry
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import ChecksJobs, Platform
from caliban.records import Destination, JsonObject, PlatformId
from caliban.submission.boundary import platform_errors

ImageSource = BuildSpec | ImageSpec | CalibanError
"""Where an image comes from: built from a directory, used as it is, or why there is none."""


@dataclass(frozen=True)
class Route:
    """The way of a job to its destination, checked.

    Attributes:
        platform: where it runs.
        destination: where on the platform.
        registry: where its image is pushed to; None where it is not pushed.
    """

    platform: Platform
    destination: Destination
    registry: Registry | None


class Preflight:
    """Checks routes. The result of a check counts for every job that needs the same."""

    def __init__(self) -> None:
        self._failures: dict[Hashable, CalibanError | None] = {}

    def route(
        self,
        platform: Platform,
        source: ImageSource,
        find_destination: Callable[[], Destination],
        job_spec: Callable[[], JsonObject] | None = None,
    ) -> Route:
        """Find the destination, and check that it and the registry can be reached.

        Args:
            platform: where the job runs.
            source: where its image comes from.
            find_destination: returns the destination.
            job_spec: returns the spec of the job, whose image may be any; None where nothing of it is checked.

        Raises:
            CalibanError: the job cannot be submitted.
        """
        if isinstance(source, CalibanError):
            raise source
        check_registry_name(platform, source)
        with platform_errors(platform.id, "check where a job would run"):
            destination = find_destination()
            destination.check()
            self._once(("destination", platform.id, destination), platform.id, lambda: platform.connect(destination))
            if isinstance(platform, ChecksJobs) and job_spec is not None:
                platform.check_job(job_spec())
            registry = None
            if isinstance(source, BuildSpec) and platform.needs_image:
                registry = platform.image_registry(source.config, destination)
                if registry is not None:
                    self._once(registry, platform.id, registry.check)
            return Route(platform, destination, registry)

    def _once(self, key: Hashable, id: PlatformId, check: Callable[[], None]) -> None:
        if key not in self._failures:
            try:
                with platform_errors(id, "connect"):
                    check()
            except CalibanError as error:
                self._failures[key] = error
            else:
                self._failures[key] = None
        if (failure := self._failures[key]) is not None:
            raise failure


def check_registry_name(platform: Platform, source: ImageSource) -> None:
    """Check without a connection that there is a registry for an image that has to be built.

    Raises:
        CalibanError: there is none, or its name is malformed.
    """
    if isinstance(source, BuildSpec) and platform.needs_image:
        with platform_errors(platform.id, "name its registry"):
            platform.image_registry(source.config, None)
