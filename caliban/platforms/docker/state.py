"""The state of a container, as a Docker Engine or Podman reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caliban.platforms.stored_json import parse_time, text

RUNNING_STATES = frozenset({"running", "paused", "restarting", "stopping"})
"""Values of ``State.Status`` of a container that has not ended (Docker Engine API, ContainerInspect; the last one is
Podman's)."""

_WAITING_STATES = frozenset({"created", "configured", "initialized"})
"""The same of one that was not started; the last two are Podman's."""

EXITED_STATES = frozenset({"exited", "stopped"})
_ENDED_STATES = EXITED_STATES | {"dead", "removing"}
_NEVER = "0001-01-01T00:00:00Z"
"""What Docker writes where a container has not started or ended."""


class OddStateError(ValueError):
    """The state of a container is none that a Docker Engine reports."""


@dataclass(frozen=True)
class ContainerState:
    """The state of a container.

    Attributes:
        status: in Docker's words: ``running``, ``exited``.
        exit_code: of the program; None while it runs, and where the engine does not report it.
        out_of_memory: whether the kernel ended it for lack of memory.
        error: why it could not be started, in Docker's words, or None.
        started: when it was started last (RFC 3339), or None.
        ended: when it ended last, or None.
    """

    status: str
    exit_code: int | None = None
    out_of_memory: bool = False
    error: str | None = None
    started: str | None = None
    ended: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; a container that Docker restarts has not."""
        return self.status in RUNNING_STATES

    @property
    def was_started(self) -> bool:
        """Whether the program was ever started. A container that is being removed may never have been."""
        return self.is_running or self.status in EXITED_STATES or self.started is not None

    @property
    def seconds(self) -> float | None:
        """How long it ran; None where the engine does not report that."""
        started, ended = parse_time(self.started), parse_time(self.ended)
        return None if started is None or ended is None else (ended - started).total_seconds()

    @classmethod
    def from_json(cls, raw: object) -> ContainerState:
        """Read ``State`` of an inspected container (docs.docker.com/reference/api/engine, ContainerInspect).

        Raises:
            OddStateError: it has no known ``Status``.
        """
        if not isinstance(raw, Mapping):
            raise OddStateError("the container has no State")
        status, code = raw.get("Status"), raw.get("ExitCode")
        if not isinstance(status, str) or status not in RUNNING_STATES | _WAITING_STATES | _ENDED_STATES:
            raise OddStateError(f"the container has the state {status!r}"[:100])
        return cls(
            status,
            code if isinstance(code, int) and not isinstance(code, bool) else None,
            raw.get("OOMKilled") is True,
            text(raw, "Error"),
            _time(raw.get("StartedAt")),
            _time(raw.get("FinishedAt")),
        )


def _time(value: object) -> str | None:
    return value if isinstance(value, str) and value and not value.startswith(_NEVER[:10]) else None
