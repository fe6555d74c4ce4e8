"""LOCAL, with the fake Docker Engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caliban.images.docker.engine import Engine
from caliban.platforms.docker.launch import LAUNCHER
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord
from tests.platforms.contract.case import ContractCase
from tests.platforms.docker.fake_docker import fake_docker
from tests.platforms.docker.fake_engine import Container


class DockerCase(ContractCase):
    """Containers of the fake engine."""

    platform_class = DockerPlatform
    launcher = LAUNCHER
    flags = ("--nogpu",)
    images = ("lab:1", "lab:2")

    @contextmanager
    def service(self) -> Iterator[None]:
        # The path of a Unix socket must be short (107 bytes); that of tmp_path may not be.
        with tempfile.TemporaryDirectory() as directory, fake_docker(Path(directory)) as self._docker:
            path = str(self._docker.socket.parent / "bin")
            self.patch.setenv("PATH", path)  # where subprocess looks for the program
            self.environ = {"DOCKER_HOST": f"unix://{self._docker.socket}", "PATH": path}
            self._engines: list[Engine] = []
            yield
            for engine in self._engines:
                engine.client.close()

    def engine(self) -> Engine:
        self._engines.append(Engine.connect(self.environ))
        return self._engines[-1]

    def started(self) -> int:
        return sum(container.state["Status"] != "created" for container in self._docker.containers.values())

    def requests(self) -> int:
        return len(self._docker.requests) + len(self._docker.calls)

    def lose_answer(self) -> None:
        self._docker.lost = {"start"}

    def refuse(self) -> None:
        self._docker.start_error = "could not select device driver"

    def disconnect(self) -> None:
        self._docker.failure = "the daemon is shutting down"
        self._docker.socket.rename(self._docker.socket.with_suffix(".gone"))

    def end(self, job: JobRecord, *, succeeded: bool) -> None:
        self._container(job).end(0 if succeeded else 1)

    def remove(self, job: JobRecord) -> None:
        del self._docker.containers[self._container(job).name]

    def write(self, job: JobRecord, data: bytes) -> None:
        self._container(job).out += data

    def forget_output(self, job: JobRecord) -> None:
        self.remove(job)

    def _container(self, job: JobRecord) -> Container:
        return self._docker.containers[str(job.details.display_name)]
