"""The Docker Engine's containers: the requests, and how their answers are read. Every request has a deadline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.bounded import DeadlineExceededError
from caliban.images.docker.engine import ANSWER_SECONDS, Engine
from caliban.platforms.base import TOKEN_LABEL
from caliban.platforms.docker.details import ContainerState, OddStateError
from caliban.threads import within

if TYPE_CHECKING:
    import docker
    from docker.errors import APIError

REMOVE_LABEL = "caliban.rm"
"""The label of a container that caliban removes once its end is recorded: what ``docker run --rm`` means."""

_CONFLICT = 409
STOP_SECONDS = 10
"""Seconds between SIGTERM and SIGKILL, the default of ``docker stop``."""

_LONGEST_STOP_SECONDS = 20 * 24 * 3600
"""What stands for "as long as it takes". A wait of more than 24 days is too long for sockets, which count in ms."""

STOP_SIGNAL = "SIGTERM"
IMPATIENT_SECONDS = 1.0
"""How long an engine has to answer a user who presses Ctrl-C for the second time."""

START_SECONDS = 300.0
"""How long an engine has to start a container; a driver of a GPU may have to be loaded."""

WAIT_SECONDS = 60
"""How long one request waits for the end of a container."""

_MARGIN_SECONDS = 5


@dataclass(frozen=True)
class Container:
    """An inspected container.

    Attributes:
        id: its id.
        name: its name, without the leading slash.
        image: what it was created from, as it was given.
        state: its state.
        stop_seconds: between the signal to stop and SIGKILL.
        stop_signal: the signal to stop: of the user, else of the image.
        is_ours: whether it has the label of a submission.
        remove_when_ended: whether it is removed once its end is recorded.
    """

    id: str
    name: str
    image: str
    state: ContainerState
    stop_seconds: int = STOP_SECONDS
    stop_signal: str = STOP_SIGNAL
    is_ours: bool = True
    remove_when_ended: bool = False

    @property
    def is_vanishing(self) -> bool:
        """Whether it is being removed."""
        return self.state.status in ("removing", "dead")

    @classmethod
    def from_json(cls, raw: object) -> Container:
        """Read an answer to ``GET /containers/ID/json``.

        Raises:
            OddStateError: it has no id, or no state.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("Id"), str) or not raw["Id"]:
            raise OddStateError("the container has no id")
        config = raw.get("Config")
        config = config if isinstance(config, Mapping) else {}
        labels = config.get("Labels")
        labels = labels if isinstance(labels, Mapping) else {}
        return cls(
            raw["Id"],
            str(raw.get("Name") or "").lstrip("/"),
            str(config.get("Image") or ""),
            ContainerState.from_json(raw.get("State")),
            stop_seconds(config.get("StopTimeout")),
            _stop_signal(config.get("StopSignal")),
            TOKEN_LABEL in labels,
            REMOVE_LABEL in labels,
        )


_SIGNAL = re.compile(r"[A-Za-z0-9+-]{1,20}")
_REFERENCE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
"""A container's name or id (https://github.com/moby/moby/blob/master/daemon/names/names.go)."""


def is_reference(text: str) -> bool:
    """Return whether a recorded text can name a container, and nothing else in a URL."""
    return _REFERENCE.fullmatch(text) is not None


class Containers:
    """The containers of one engine.

    Every method raises what docker-py raises, :class:`~caliban.bounded.DeadlineExceededError`, or
    :class:`~caliban.platforms.docker.details.OddStateError` for an answer that no engine gives; see
    :func:`caliban.platforms.docker.errors.translate_errors`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def listed(self) -> dict[str, str]:
        """Return the status of each container of caliban, by its id and by its name. One request."""
        found: dict[str, str] = {}
        for entry in self._list(TOKEN_LABEL):
            state, names = entry.get("State"), entry.get("Names")
            keys = [entry.get("Id"), *(names if isinstance(names, Sequence) else ())]
            found.update({key.lstrip("/"): str(state) for key in keys if isinstance(key, str)})
        return found

    def with_token(self, token: str) -> list[Container]:
        """Return the containers with a submission's token, inspected: one, unless a command was killed in between."""
        found = [entry.get("Id") for entry in self._list(f"{TOKEN_LABEL}={token}")]
        if not all(isinstance(each, str) and each for each in found):
            raise OddStateError("a listed container has no id")
        return [container for each in found if (container := self.inspect(str(each))) is not None]

    def inspect(self, reference: str, *, seconds: float = ANSWER_SECONDS) -> Container | None:
        """Return a container of caliban by its id or name; None where there is none.

        A record can name any container; one without the label of a submission is nobody's job.

        Args:
            reference: the id or name.
            seconds: how long the engine has to answer.
        """
        import docker.errors

        try:
            raw = self._engine.ask(lambda api: api.inspect_container(reference), seconds=seconds)
            container = Container.from_json(raw)
        except docker.errors.NotFound:
            return None
        return container if container.is_ours else None

    def peek(self, reference: str) -> Container | None:
        """Return a container; None where there is none, and where the engine does not answer in time."""
        try:
            return self.inspect(reference)
        except DeadlineExceededError:
            return None

    def start(self, name: str) -> None:
        """Start a container that was created."""
        self._engine.ask(lambda api: api.start(name), seconds=START_SECONDS)

    def rename(self, reference: str, name: str) -> None:
        """Give a container another name, unless it has that name already, or does not exist any more."""
        import docker.errors

        try:
            self._ask_unless_gone(lambda api: api.rename(reference, name))
        except docker.errors.APIError:
            now = self.inspect(reference)
            if now is not None and now.name != name and not now.is_vanishing:
                raise

    def remove(self, reference: str) -> None:
        """Remove a container; leave it alone if it runs."""
        import docker.errors

        try:
            self._ask_unless_gone(lambda api: api.remove_container(reference, v=True))
        except docker.errors.APIError as error:
            if _status(error) != _CONFLICT:  # it runs, or another process is removing it
                raise

    def stop(self, container: Container) -> bool:
        """Send its signal, then SIGKILL. Return whether the container was running until then.

        The engine answers 304 to a request for a container that had ended already.
        """
        import docker.errors

        seconds = container.stop_seconds

        def request(api: docker.APIClient) -> bool:
            with self._engine.responses() as responses:
                api.stop(container.id, timeout=seconds)
                # other threads may stop other containers
                return not any(each.status_code == 304 for each in responses if container.id in each.url)

        slow = f"waiting for {container.name} to stop: {container.stop_signal} was sent, SIGKILL follows "
        try:
            return self._engine.within(
                seconds + ANSWER_SECONDS, lambda: request(self._engine.client.api), f"{slow}{_after(seconds)} ..."
            )
        except docker.errors.NotFound:  # removed in the meantime, and so stopped
            return True

    def kill(self, container: Container) -> bool:
        """Send SIGKILL. Return whether the container was running until then."""
        import docker.errors

        try:
            self._engine.ask(lambda api: api.kill(container.id))
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError as error:
            if _status(error) != _CONFLICT:  # it is not running
                raise
            return False
        return True

    def wait(self, id: str, seconds: int = WAIT_SECONDS) -> bool:
        """Wait for the end of a container, ``seconds`` at most. Return whether the request was answered.

        An answer does not mean that it has ended: it may have been restarted; or it does not exist any more.
        """
        import docker.errors
        import requests
        import urllib3.exceptions

        api, clock = self._engine.client.api, self._engine.clock
        try:
            # docker-py's timeout counts from one byte to the next
            within(seconds + _MARGIN_SECONDS, lambda: api.wait(id, timeout=seconds), clock)
        except docker.errors.NotFound:
            return True
        except DeadlineExceededError:
            return False
        except requests.exceptions.Timeout:
            return False
        except requests.exceptions.ConnectionError as error:
            if isinstance(error.args[0] if error.args else None, urllib3.exceptions.ReadTimeoutError):
                return False
            raise
        return True

    def _list(self, label: str) -> Iterator[Mapping[str, object]]:
        answer: object = self._engine.ask(lambda api: api.containers(all=True, filters={"label": label}))
        if not isinstance(answer, list) or not all(isinstance(entry, Mapping) for entry in answer):
            raise OddStateError("the list of containers is no list of objects")
        return iter(answer)

    def _ask_unless_gone(self, request: Callable[[docker.APIClient], object]) -> None:
        import docker.errors

        with suppress(docker.errors.NotFound):
            self._engine.ask(request)


def stop_seconds(given: object) -> int:
    """Return what ``--stop-timeout`` means, where -1 is "as long as it takes"."""
    if not isinstance(given, int) or isinstance(given, bool):
        return STOP_SECONDS
    return given if 0 <= given <= _LONGEST_STOP_SECONDS else _LONGEST_STOP_SECONDS


def _stop_signal(given: object) -> str:
    return given if isinstance(given, str) and _SIGNAL.fullmatch(given) else STOP_SIGNAL


def _after(seconds: int) -> str:
    return "never" if seconds == _LONGEST_STOP_SECONDS else f"{seconds} s later"


def _status(error: APIError) -> int | None:
    return error.response.status_code if error.response is not None else None
