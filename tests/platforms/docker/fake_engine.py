"""What a fake Docker Engine has: its images and containers, and what ``docker create`` and a start do to them.

Its messages are those of Docker 20.10 to 29.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INFO = {"ID": "a1b2-engine", "Name": "catbus", "DockerRootDir": "/var/lib/docker"}
NEVER = "0001-01-01T00:00:00Z"
_FLAGS_WITH_VALUE = frozenset(
    {
        "--name",
        "--label",
        "--mount",
        "--gpus",
        "--ipc",
        "-e",
        "-v",
        "--restart",
        "--pull",
        "--entrypoint",
        "--user",
        "-u",
    }
)
_FLAGS = frozenset({"--privileged", "-i", "-t", "--init", "--init=false"})
_HELP = b"""
Usage:  docker create [OPTIONS] IMAGE [COMMAND] [ARG...]

Options:
  -Z, --zone string                      The zone
      --new-switch                       A switch of a newer docker
      --new-value list                   A value
                                         (default [])
"""


def _messages(number: int, data: bytes, ends: list[int]) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield what a log has of a stream: the time in seconds, as it is written, and a line, or 16 KB of one.

    A line ends with the run of the program, too: ``ends``.
    """
    runs = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    for line in (line for run in runs for line in re.findall(rb"[^\n]*\n|[^\n]+", run)):
        for start in range(0, len(line), 16384):
            number += 2
            moment = f"1590749620.{number:09}"
            yield moment, f"2020-05-29T10:53:40.{number:09}Z".encode(), line[start : start + 16384]


@dataclass
class Container:
    """A container, with the state that the API reports."""

    id: str
    name: str
    labels: dict[str, str]
    image: str
    arguments: list[str]
    docker_arguments: list[str]
    state: dict[str, Any]
    out: bytes = b""
    err: bytes = b""
    restarts: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)

    def end(self, code: int = 0, *, oom: bool = False) -> None:
        """The program ends."""
        self.ends.append((len(self.out), len(self.err)))
        self.state |= {
            "Status": "exited",
            "ExitCode": code,
            "OOMKilled": oom,
            "FinishedAt": "2020-05-29T10:54:00.987654321Z",
        }


Message = tuple[int, str, bytes, bytes]
"""A message of a log: the number of its stream, its time in seconds, its time as it is written, and its data."""


def log_messages(
    container: Container, sizes: Sequence[int], lost: int, since: str, sent: list[int], *, only_lines: bool
) -> list[Message]:
    """Return the messages that were not sent yet, and count them in ``sent``: standard output first."""
    messages: list[Message] = []
    for number, data in enumerate((container.out[: sizes[0]], container.err[: sizes[1]])):
        data = data[: max(0, len(data) - lost)]
        data = data[: data.rfind(b"\n") + 1] if only_lines else data
        found = [
            (number, *each)
            for each in _messages(number, data, [end[number] for end in container.ends])
            if each[0] >= since
        ]
        messages += found[sent[number] :]
        sent[number] = len(found)
    return messages


@dataclass(frozen=True)
class CliCall:
    """One call of the ``docker`` command."""

    arguments: list[str]
    environ: Mapping[str, str]


@dataclass
class FakeDocker:
    """The engine.

    Attributes:
        requests: the API requests, ``METHOD PATH`` without the version, in order.
        calls: the calls of the ``docker`` command, in order.
        containers: by name.
        images: the images that it has.
        start_error: the error of every start, or None.
        failure: why the engine answers no request but that for its version, or None.
        lost: what is done without an answer: ``start``, ``create``.
        hooks: called before a request ``METHOD PATH`` is processed, once; what they return is the answer, unless None.
        info: the answer to ``GET /info``.
        starts: the ids of the containers that were started, in order.
        stop_code: the exit code of a container that is stopped.
        stop_seconds: the grace period that a request to stop has to name.
        stall: while it is set, no request is answered.
        lost_output: bytes of the end of each stream that the engine does not deliver to those who follow it.
        create_stderr: what ``docker create`` writes beside the id.
        config: what containers have in ``Config`` beside their image and labels.
        image_config: what images have in ``Config``.
        kills: the ids of the containers that were killed, in order.
        attach_error: why nobody can be attached to a container, or None.
        cut_attached: while it is set, connections to attached containers end.
        logs_error: why no log can be read, or None.
        on_wait: called when a client waits for a container.
    """

    socket: Path
    requests: list[str] = field(default_factory=list)
    calls: list[CliCall] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    images: set[str] = field(default_factory=lambda: {"lab:1"})
    start_error: str | None = None
    failure: str | None = None
    lost: set[str] = field(default_factory=set)
    hooks: dict[str, Callable[[], tuple[int, object] | None]] = field(default_factory=dict)
    info: object = field(
        default_factory=lambda: {"ID": "a1b2-engine", "Name": "catbus", "DockerRootDir": "/var/lib/docker"}
    )
    stop_code: int = 137
    stop_seconds: list[str] = field(default_factory=lambda: ["10"])
    starts: list[str] = field(default_factory=list)
    create_stderr: bytes = b""
    lost_output: int = 0
    config: dict[str, object] = field(default_factory=dict)
    image_config: dict[str, object] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)
    attach_error: str | None = None
    cut_attached: threading.Event = field(default_factory=threading.Event)
    logs_error: str | None = None
    on_wait: Callable[[Container], None] = lambda container: container.end()
    unexpected: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    stall: threading.Event = field(default_factory=threading.Event)

    def create(self, arguments: list[str]) -> tuple[int, bytes, bytes]:
        """``docker create``."""
        if arguments == ["--help"]:
            return 0, _HELP, b""
        container = self._parse(arguments)
        if isinstance(container, str):
            return 125, b"", f"{container}\n\nRun 'docker create --help' for more information\n".encode()
        if container.name in self.containers:
            return self._failure(f'Conflict. The container name "/{container.name}" is already in use')
        if container.image not in self.images:
            unable = f"Unable to find image '{container.image}' locally\n".encode()
            code, out, error = self._failure(f"pull access denied for {container.image}")
            return code, out, unable + error
        self.containers[container.name] = container
        if "create" in self.lost:
            return 1, b"", b"error during connect: EOF\n"
        return 0, f"{container.id}\n".encode(), self.create_stderr

    def _failure(self, message: str) -> tuple[int, bytes, bytes]:
        text = f"Error response from daemon: {message}\n\nRun 'docker create --help' for more information\n"
        return 1, b"", text.encode()

    def start(self, container: Container) -> tuple[int, object]:
        """``POST /containers/NAME/start``."""
        if container.state["Status"] == "running":
            return 304, None
        if self.start_error:
            container.state |= {"ExitCode": 128, "Error": self.start_error}
            return 500, {"message": self.start_error}
        self.starts.append(container.id)
        container.state |= {"Status": "running", "StartedAt": "2020-05-29T10:53:40.123456789Z"}
        return 204, None

    def _parse(self, arguments: list[str]) -> Container | str:
        words = list(arguments)
        flags: list[tuple[str, str]] = []
        while words and words[0].startswith("-"):
            name = words.pop(0)
            if name not in _FLAGS_WITH_VALUE | _FLAGS:
                return f"unknown flag: {name}"
            flags.append((name, words.pop(0) if name in _FLAGS_WITH_VALUE else ""))
        values = dict(flags)
        labels = dict(value.partition("=")[::2] for name, value in flags if name == "--label")
        state = {"Status": "created", "ExitCode": 0, "OOMKilled": False, "Error": "", "StartedAt": NEVER}
        image, *rest = words
        docker_arguments = arguments[: len(arguments) - len(words)]
        return Container(
            uuid.uuid4().hex * 2,
            values["--name"],
            labels,
            image,
            rest,
            docker_arguments,
            {**state, "FinishedAt": NEVER},
        )

    def rename(self, container: Container, name: str) -> tuple[int, object]:
        """``POST /containers/NAME/rename``."""
        if name == container.name:
            return 400, {"message": "Renaming a container with the same name as its current name"}
        assert name not in self.containers
        del self.containers[container.name]
        container.name = name
        self.containers[name] = container
        return 204, None

    def find(self, name: str) -> Container | None:
        found = (each for each in self.containers.values() if name in (each.name, each.id))
        return next(found, None)
