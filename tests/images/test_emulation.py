"""Images for other machines than the one whose Docker Engine builds them."""

from __future__ import annotations

import json
import os
import socketserver
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from caliban.config import ProjectConfig
from caliban.errors import ImageError
from caliban.images.docker import emulation
from caliban.images.docker.emulation import registered_machines
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from caliban.images.image_platform import (
    architecture,
    platform_of_local_jobs,
    platform_of_remote_jobs,
    runs_without_emulation,
)
from caliban.images.spec import BuildSpec
from tests.images.helpers import Project, RecordingReporter
from tests.serving import UnixHandler, serve_in_thread

BUILT: list[dict[str, Any]] = [{"stream": "Step 1/2 : FROM x\n"}, {"aux": {"ID": "sha256:1"}}]
NOT_RUN: list[dict[str, Any]] = [
    {"stream": "Step 1/9 : FROM x\n"},
    {"stream": "Step 2/9 : USER root\n"},
    {"stream": "exec /bin/sh: exec format error\n"},
    {"error": "The command '/bin/sh' returned a non-zero code: 255"},
]
AMD64 = (
    "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c4602010100000000000000000002003e00\nmask ff\n"
)
S390X = (
    "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\nmask ff\n"
)


@dataclass
class FakeArmEngine:
    """An engine of a laptop with an ARM processor, which builds whatever it is sent.

    Attributes:
        version: the answer to ``GET /version``.
        kernel: its release.
        events: of every build.
        builds: the query of each build.
        architectures: the processor of each image, by its name; it does not say that of others.
        driver_status: of its image store.
        pulls: the platform of each pull.
        pull_error: why nothing can be pulled; None where it can.
    """

    host: str
    version: dict[str, str] = field(default_factory=lambda: {"ApiVersion": "1.41", "Os": "linux", "Arch": "arm64"})
    kernel: str = "of a virtual machine"
    events: list[dict[str, Any]] = field(default_factory=lambda: list(BUILT))
    builds: list[dict[str, list[str]]] = field(default_factory=list)
    architectures: dict[str, str] = field(default_factory=dict)
    driver_status: list[list[str]] = field(default_factory=lambda: [["Backing Filesystem", "extfs"]])
    pulls: list[str] = field(default_factory=list)
    pull_error: str | None = None


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    engine: FakeArmEngine


class _Handler(UnixHandler):
    server: _Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/v1.41")
        answers: dict[str, object] = {
            "/version": self.server.engine.version,
            "/info": {"KernelVersion": self.server.engine.kernel, "DriverStatus": self.server.engine.driver_status},
        }
        if path.startswith("/images/") and path.endswith("/json"):
            name = path.removeprefix("/images/").removesuffix("/json")
            known = self.server.engine.architectures
            answers[path] = {"Id": "sha256:1", **({"Architecture": known[name]} if name in known else {})}
        assert path in answers, path
        self.reply(json.dumps(answers[path]).encode())

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/v1.41/images/create":
            self._pull(parse_qs(parts.query))
            return
        assert parts.path == "/v1.41/build"
        self.server.engine.builds.append(parse_qs(parts.query))
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()
        self.reply(b"".join(json.dumps(event).encode() + b"\r\n" for event in self.server.engine.events))

    def _pull(self, query: dict[str, list[str]]) -> None:
        engine = self.server.engine
        [name], [tag], [platform] = query["fromImage"], query["tag"], query["platform"]
        engine.pulls.append(platform)
        event = {"error": engine.pull_error} if engine.pull_error else {"status": "Status: Downloaded"}
        if not engine.pull_error:
            engine.architectures[f"{name}:{tag}"] = platform.partition("/")[2]
        self.reply(json.dumps(event).encode() + b"\r\n")


@pytest.fixture
def laptop() -> Iterator[FakeArmEngine]:
    with TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory, "sock")
        server = _Server(str(path), _Handler)
        server.engine = FakeArmEngine(f"unix://{path}")
        with serve_in_thread(server):
            yield server.engine


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the kernel's emulators, of which there are none."""
    directory = tmp_path / "binfmt_misc"
    directory.mkdir()
    (directory / "status").write_text("enabled\n")
    (directory / "register").write_text("")
    monkeypatch.setattr(emulation, "HANDLERS", directory)
    return directory


@pytest.fixture
def spec(tmp_path: Path) -> BuildSpec:
    project = Project(tmp_path / "project", "x")
    project.write("cpu.py", "")
    return project.spec()


def build(laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, platform: str | None) -> str:
    with closing(Engine.connect({"DOCKER_HOST": laptop.host, "DOCKER_CONFIG": "/nonexistent"})) as engine:
        return engine.build(replace(spec, image_platform=platform), BuildUser(0, 0, "root"), reporter)


def failure(laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, platform: str | None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        build(laptop, spec, reporter, platform)
    assert caught.value.id == "emulation-missing"
    return caught.value


def test_the_platform_of_an_image_is_sent_with_the_build(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    build(laptop, spec, reporter, "linux/amd64")
    assert laptop.builds[0]["platform"] == ["linux/amd64"]


def test_an_image_for_this_machine_is_built_without_a_platform(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    build(laptop, spec, reporter, None)
    assert "platform" not in laptop.builds[0]


def test_a_build_for_another_processor_is_announced(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    build(laptop, spec, reporter, "linux/amd64")
    expected = "building for linux/amd64 on a Docker Engine for linux/arm64: the steps run under emulation"
    assert reporter.lines[0] == expected


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8", "linux/aarch64", "linux/arm/v7"])
def test_a_build_for_the_engines_own_processor_is_not_announced(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, platform: str
) -> None:
    build(laptop, spec, reporter, platform)
    assert not any("emulation" in line for line in reporter.lines)


def test_an_engine_of_this_kernel_without_an_emulator_builds_nothing(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, handlers: Path
) -> None:
    laptop.kernel = os.uname().release
    error = failure(laptop, spec, reporter, "linux/amd64")
    assert laptop.builds == []
    assert error.message == (
        "cannot build the image for linux/amd64: the Docker Engine (linux/arm64) cannot run its programs"
    )
    assert "binfmt --install amd64" in (error.hint or "")
    assert '"platform" in .calibanconfig.json' in (error.hint or "")


def test_an_engine_with_an_emulator_builds(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, handlers: Path
) -> None:
    laptop.kernel = os.uname().release
    (handlers / "any-name").write_text(AMD64)
    assert build(laptop, spec, reporter, "linux/amd64") == "sha256:1"


def test_the_emulators_of_a_virtual_machine_are_unknown_so_the_build_is_tried(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, handlers: Path
) -> None:
    assert build(laptop, spec, reporter, "linux/amd64") == "sha256:1"


def test_a_step_that_cannot_run_on_the_engine_has_a_hint(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.events = list(NOT_RUN)
    error = failure(laptop, spec, reporter, "linux/amd64")
    assert "exec format error" in (error.cause or "")
    assert "binfmt --install amd64" in (error.hint or "")


def test_a_base_image_for_another_processor_has_a_hint(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.events = list(NOT_RUN)
    error = failure(laptop, spec, reporter, None)
    assert "its base image is for another processor than the Docker Engine (linux/arm64)" in error.message
    assert "docker pull --platform linux/arm64" in (error.hint or "")


BASE = "python:3.12-slim"


def test_a_base_image_for_another_processor_is_replaced_before_the_build(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    """The builder of an engine without containerd's image store builds on it whatever it is for."""
    laptop.architectures[BASE] = "arm64"
    build(laptop, spec, reporter, "linux/amd64")
    assert (laptop.pulls, len(laptop.builds)) == (["linux/amd64"], 1)


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/aarch64", None])
def test_a_base_image_for_the_right_processor_is_not_pulled_again(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, platform: str | None
) -> None:
    laptop.architectures[BASE] = "arm64"
    build(laptop, spec, reporter, platform)
    assert laptop.pulls == []


def test_a_base_image_that_a_build_for_a_cluster_left_is_replaced_for_a_local_job(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.architectures[BASE] = "amd64"
    build(laptop, spec, reporter, None)
    assert (laptop.pulls, len(laptop.builds), reporter.warnings) == (["linux/arm64"], 1, [])


def test_a_base_image_that_does_not_exist_for_this_machine_is_used_with_a_warning(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.architectures[BASE] = "amd64"
    laptop.pull_error = "no matching manifest for linux/arm64 in the manifest list entries"
    build(laptop, spec, reporter, None)
    assert len(laptop.builds) == 1
    assert reporter.warnings == [f"the base image {BASE} is for amd64, and the Docker Engine for linux/arm64"]


@pytest.mark.parametrize("reason", ["toomanyrequests: rate limit", "unauthorized: token is expired"])
def test_a_rate_limit_or_login_is_not_called_a_wrong_platform(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, reason: str
) -> None:
    laptop.architectures[BASE] = "arm64"
    laptop.pull_error = reason
    with pytest.raises(ImageError, match=r"rate limit of Docker Hub|login .* has expired"):
        build(laptop, spec, reporter, "linux/amd64")
    laptop.architectures[BASE] = "amd64"
    build(laptop, spec, reporter, None)
    assert reporter.warnings[-1].endswith(f"(cannot pull it again: {reason})")


def test_an_engine_with_images_of_several_platforms_under_one_name_chooses_by_itself(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.architectures[BASE] = "arm64"
    laptop.driver_status = [["driver-type", "io.containerd.snapshotter.v1"]]
    build(laptop, spec, reporter, "linux/amd64")
    assert laptop.pulls == []


def test_a_base_image_that_exists_for_another_processor_only_is_an_error_before_the_build(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.architectures[BASE] = "arm64"
    laptop.pull_error = "no matching manifest for linux/amd64 in the manifest list entries"
    with pytest.raises(ImageError) as caught:
        build(laptop, spec, reporter, "linux/amd64")
    assert (caught.value.id, laptop.builds) == ("base-image-unavailable", [])
    assert "is for arm64" in caught.value.message
    assert '"platform" in .calibanconfig.json' in (caught.value.hint or "")


def test_an_image_that_was_built_for_another_processor_is_an_error(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter
) -> None:
    laptop.architectures["sha256:1"] = "arm64"
    with pytest.raises(ImageError) as caught:
        build(laptop, spec, reporter, "linux/amd64")
    assert caught.value.id == "image-platform-wrong"


def test_an_engine_that_does_not_say_what_it_is_builds(
    laptop: FakeArmEngine, spec: BuildSpec, reporter: RecordingReporter, handlers: Path
) -> None:
    laptop.version = {"ApiVersion": "1.41"}
    laptop.kernel = os.uname().release
    assert build(laptop, spec, reporter, "linux/amd64") == "sha256:1"


def test_the_kernels_emulators_are_read_from_what_they_match(handlers: Path) -> None:
    (handlers / "a").write_text(AMD64)
    (handlers / "b").write_text(S390X)
    (handlers / "c").write_text(AMD64.replace("enabled", "disabled").replace("3e00", "b700"))
    (handlers / "python").write_text("enabled\ninterpreter /usr/bin/python3\nflags:\nextension .pyc\n")
    (handlers / "jar").write_text("enabled\nmagic 504b0304\n")
    (handlers / "odd").write_text("enabled\nmagic zz\n")
    (handlers / "empty").write_text("")
    assert registered_machines(handlers) == {0x3E, 0x16}


def test_emulators_that_are_switched_off_are_none(handlers: Path) -> None:
    (handlers / "a").write_text(AMD64)
    (handlers / "status").write_text("disabled\n")
    assert registered_machines(handlers) == set()


def test_without_the_kernels_file_system_its_emulators_are_unknown(tmp_path: Path) -> None:
    assert registered_machines(tmp_path / "binfmt_misc") is None


@pytest.mark.parametrize(
    ("config", "variable", "expected"),
    [
        (None, None, "linux/amd64"),
        (None, "", "linux/amd64"),
        (None, "linux/arm64", "linux/arm64"),
        ("linux/arm64", None, "linux/arm64"),
        ("linux/arm64", "linux/amd64", "linux/arm64"),
    ],
)
def test_images_for_other_machines_are_linux_amd64_unless_asked_otherwise(
    config: str | None, variable: str | None, expected: str
) -> None:
    environ = {} if variable is None else {"DOCKER_DEFAULT_PLATFORM": variable}
    assert platform_of_remote_jobs(ProjectConfig(platform=config), environ) == expected


@pytest.mark.parametrize(("variable", "expected"), [(None, None), ("", None), ("linux/arm64", "linux/arm64")])
def test_images_for_this_machine_are_what_docker_create_assumes(variable: str | None, expected: str | None) -> None:
    environ = {} if variable is None else {"DOCKER_DEFAULT_PLATFORM": variable}
    assert platform_of_local_jobs(environ) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "amd64"),
        ("linux/x86_64", "amd64"),
        ("linux/arm64/v8", "arm64"),
        ("linux/aarch64", "arm64"),
        ("amd64", "amd64"),
        ("LINUX/AMD64", "amd64"),
    ],
)
def test_a_processor_has_one_name(text: str, expected: str) -> None:
    assert architecture(text) == expected


@pytest.mark.parametrize(
    ("wanted", "native", "expected"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/386", "linux/amd64", True),
        ("linux/arm/v7", "linux/arm64", True),
        ("linux", "linux/arm64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/arm64", "linux/amd64", False),
        ("linux/arm64", "linux/arm", False),
    ],
)
def test_a_processor_also_runs_the_programs_of_its_predecessor(wanted: str, native: str, expected: bool) -> None:
    assert runs_without_emulation(wanted, native) is expected
