"""The registry logins that docker-py sends with a build: those of docker's configuration and of its credential helpers.

docker-py runs every helper of the configuration for each build, waits for it for ever, and leaves it behind. So they
are run here, and docker-py gets what they have; where they do not work, the build goes on without them, as the base
image may need no login.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from caliban.bounded import DeadlineExceededError
from caliban.clock import Clock
from caliban.images.registry.auth import login_key, stored_configuration
from caliban.images.registry.helpers import UnreadableError, helper_keys, helper_login
from caliban.images.registry.names import base_image_host
from caliban.records import ImageRef
from caliban.redaction import exception_text, register_secrets
from caliban.reporter import Reporter

if TYPE_CHECKING:
    import docker
    from docker.auth import AuthConfig

HELPER_SECONDS = 60.0
"""How long all credential helpers together have."""


def check_logins(api: docker.APIClient, clock: Clock, reporter: Reporter, base_image: ImageRef | None = None) -> None:
    """Let builds send the stored logins, and do without those that cannot be read.

    Args:
        api: docker-py's client.
        clock: the time, and waiting.
        reporter: gets a warning, and a line where a helper takes long.
        base_image: whose registry a helper is asked for that cannot list its registries; None for no registry.
    """
    import docker.auth

    class Logins(docker.auth.AuthConfig):
        """What was read: docker-py looks for no other logins, also where there are none."""

        @property
        def is_empty(self) -> bool:
            return False

    reading = _Reading(clock, reporter, None if base_image is None else login_key(base_image_host(base_image)))
    try:
        config = stored_configuration()
        if not config.creds_store and not config.cred_helpers:
            return
        logins = dict(reading.logins(config))
    except Exception as error:  # noqa: BLE001 - the boundary: docker-py reads values without checking their types
        reading.problems.append(exception_text(error))
        logins = {}
    if reading.problems:
        reporter.warn(f"cannot read docker's stored logins: {reading.problems[0]}; building without them")
    # docker-py has no public way to give a client several logins
    api._auth_configs = Logins({"auths": logins} if logins else {})  # type: ignore[attr-defined]


class _Reading:
    """Asks the helpers of a configuration, within one deadline for all.

    Attributes:
        problems: why something could not be read.
    """

    def __init__(self, clock: Clock, reporter: Reporter, needed: str | None) -> None:
        self.problems: list[str] = []
        self._needed = needed
        self._clock = clock
        self._reporter = reporter
        self._ends_at = clock.monotonic() + HELPER_SECONDS

    def logins(self, config: AuthConfig) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Yield every login, by its registry; later ones count."""
        from docker.auth import convert_to_hostname

        yield from config.auths.items()
        asked = [(str(key), config.creds_store) for key in self._keys(config.creds_store)]
        for registry, helper in (*asked, *config.cred_helpers.items()):
            login = self._login(helper, registry)
            if login is not None:
                register_secrets(*login.values())
                entry = {**login, "serveraddress": registry}
                yield registry, entry
                yield convert_to_hostname(registry), entry

    def _keys(self, helper: object) -> list[str]:
        if not helper:
            return []
        try:
            return helper_keys(helper, self._clock, self._reporter, self._seconds_left())
        except UnreadableError as error:
            # docker asks for the registries that a build needs only, so that a helper may have no list
            if self._needed is None or self._login(helper, self._needed) is None:
                self._report(helper, error)
                return []
            return [self._needed]
        except DeadlineExceededError as error:
            self._report(helper, error)
            return []

    def _login(self, helper: object, registry: str) -> Mapping[str, str] | None:
        try:
            return helper_login(helper, registry, self._clock, self._reporter, self._seconds_left())
        except (UnreadableError, DeadlineExceededError) as error:
            self._report(helper, error)
            return None

    def _seconds_left(self) -> float:
        left = self._ends_at - self._clock.monotonic()
        if left <= 0:
            raise DeadlineExceededError
        return left

    def _report(self, helper: object, error: Exception) -> None:
        is_late = isinstance(error, DeadlineExceededError)
        reason = f"docker-credential-{helper}: no answer within {HELPER_SECONDS:.0f} s" if is_late else str(error)
        self.problems.append(reason)
