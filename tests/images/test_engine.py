from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.base_image import LABELS
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from caliban.platforms.registry import secret_files
from tests.docker_engine import SESSION_LABEL
from tests.sockets import listening_socket

from .helpers import Project, RecordingReporter

Run = Callable[..., str]


@pytest.fixture
def build(engine: Engine, user: BuildUser, reporter: RecordingReporter) -> Callable[..., str]:
    def build(project: Project, module: str = "cpu.py", **options: tuple[str, ...]) -> str:
        return engine.build(project.spec(module, **options), user, reporter)

    return build


def failure(engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter) -> ImageError:
    with pytest.raises(ImageError) as caught:
        engine.build(project.spec(), user, reporter)
    return caught.value


def cached_and_run(reporter: RecordingReporter) -> tuple[int, list[str]]:
    """Count the cached steps, and list the others by their instruction."""
    steps: list[str] = []
    cached = 0
    for line in reporter.lines:
        if line.startswith("Step "):
            steps.append(line.split(" : ")[1])
        elif line == " ---> Using cache":
            cached += 1
            steps.pop()
    return cached, steps


def test_a_script_is_built_and_run(build: Callable[..., str], project: Project, run: Run) -> None:
    image = build(project)
    assert image.startswith("sha256:")
    assert run(image, "--foo", "3") == "arguments --foo 3\n"


def test_a_module_is_built_and_run_with_its_package_only(build: Callable[..., str], project: Project, run: Run) -> None:
    project.write("trainer/__init__.py", "")
    project.write("trainer/train.py", "from trainer import model\nimport os\nprint(model.NAME, sorted(os.listdir()))\n")
    project.write("trainer/model.py", "NAME = 'model'\n")
    assert run(build(project, "trainer.train")) == "model ['trainer']\n"


def test_a_shell_script_is_built_and_run(build: Callable[..., str], project: Project, run: Run) -> None:
    project.write("run.sh", "echo from the shell: $1\n")
    assert run(build(project, "run.sh"), "x") == "from the shell: x\n"


def test_a_script_without_a_suffix_is_run_by_what_its_first_line_names(
    build: Callable[..., str], project: Project, run: Run
) -> None:
    project.write("fit", "#!/usr/bin/env python3\nimport sys\nprint('python', sys.argv[1])\n")
    assert run(build(project, "fit"), "x") == "python x\n"


def test_a_program_that_the_base_image_does_not_have_ends_the_build_early(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    project.write("fit.R", "x <- 1\n")
    with pytest.raises(ImageError) as caught:
        engine.build(project.spec("fit.R"), user, reporter)
    assert "(find Rscript) failed" in caught.value.message
    assert "Rscript" in (caught.value.hint or "")


def test_a_missing_tool_of_a_step_leads_to_its_apt_package(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    project.write("requirements.txt", "nothing @ git+https://localhost:1/nothing\n")
    error = failure(engine, project, user, reporter)
    assert error.hint == 'the image has no git: add "git" to "apt_packages" in .calibanconfig.json'


def test_a_job_runs_as_the_caller_with_a_home_and_a_writable_working_directory(
    build: Callable[..., str], project: Project, run: Run
) -> None:
    project.write(
        "cpu.py",
        "import os, pathlib, pwd\n"
        "pathlib.Path('out').write_text('x'), pathlib.Path.home().joinpath('out').write_text('x')\n"
        "print(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name, pathlib.Path.home())\n",
    )
    assert run(build(project)) == "1234 2345 mei /home/mei\n"


@pytest.mark.parametrize(
    "caller", [BuildUser(33, 33, "www-data"), BuildUser(1001, 20, "root"), BuildUser(7, 100, "né")]
)
def test_uid_gid_and_name_may_exist_in_the_base_image(
    engine: Engine, project: Project, caller: BuildUser, reporter: RecordingReporter, run: Run
) -> None:
    project.write(
        "cpu.py",
        "import os, pathlib\npathlib.Path.home().joinpath('x').touch()\n"
        "print(os.getuid(), os.getgid(), pathlib.Path.home())\n",
    )
    image = engine.build(project.spec(), caller, reporter)
    assert run(image) == f"{caller.uid} {caller.gid} /home/caliban\n"


def test_root_may_build_and_run(engine: Engine, project: Project, reporter: RecordingReporter, run: Run) -> None:
    project.write(
        "cpu.py", "import os, pathlib\npathlib.Path('out').touch()\nprint(os.getuid(), pathlib.Path.home())\n"
    )
    assert run(engine.build(project.spec(), BuildUser(0, 0, "root"), reporter)) == "0 /root\n"


def test_an_image_of_caliban_can_be_a_base_image(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter, run: Run
) -> None:
    first = engine.build(project.spec(), user, reporter)
    engine.client.images.get(first).tag("caliban-test-own", tag="1")
    try:
        project.write(CONFIG_FILE, '{"base_image": "caliban-test-own:1"}')
        assert run(engine.build(project.spec(), user, reporter), "again") == "arguments again\n"
    finally:
        engine.client.images.remove("caliban-test-own:1")


def test_the_same_directory_results_in_the_same_image(build: Callable[..., str], project: Project) -> None:
    assert build(project) == build(project)


def test_a_code_change_rebuilds_only_the_code_layer(
    engine: Engine, project: Project, user: BuildUser, run: Run
) -> None:
    project.write("requirements.txt", "# nothing yet\n")
    project.write("data/points.txt", "1 2 3")
    engine.build(project.spec(extra_dirs=("data",)), user, RecordingReporter())
    project.write("cpu.py", "print('changed')\n")
    second = RecordingReporter()
    image = engine.build(project.spec(extra_dirs=("data",)), user, second)
    cached, steps = cached_and_run(second)
    assert [step.split()[0] for step in steps] == ["FROM", "COPY", "LABEL"]
    assert cached == 10
    assert run(image) == "changed\n"


def test_no_cache_builds_every_layer_again(engine: Engine, project: Project, user: BuildUser) -> None:
    engine.build(project.spec(), user, RecordingReporter())
    second = RecordingReporter()
    engine.build(project.spec(), user, second, no_cache=True)
    assert cached_and_run(second)[0] == 0


def test_requirements_are_installed_with_the_files_that_they_refer_to(
    build: Callable[..., str], project: Project, run: Run
) -> None:
    project.write("requirements.txt", "-r more/base.txt\n")
    project.write("more/base.txt", "six\n-c limits.txt\n")
    project.write("more/limits.txt", "six==1.16.0\n")
    project.write("trainer/train.py", "import six\nprint(six.__version__)\n")
    assert run(build(project, "trainer/train.py")) == "1.16.0\n"


def test_the_dependencies_of_a_setup_py_are_installed_with_those_of_the_mode(
    build: Callable[..., str], project: Project, run: Run
) -> None:
    project.write(
        "setup.py",
        "import re\nfrom setuptools import setup\n"
        "version = re.search(r\"'(.*)'\", open('trainer/__init__.py').read()).group(1)\n"
        "setup(name='proj', version=version, packages=['trainer'],\n"
        "      extras_require={'cpu': ['six'], 'more': ['toml']})\n",
    )
    project.write("trainer/__init__.py", "__version__ = '1.5'\n")
    project.write("trainer/model.py", "NAME = 'model'\n")
    project.write(
        "trainer/train.py",
        "import six, toml\nfrom importlib import metadata\nimport trainer.model\n"
        "print(metadata.version('proj'), trainer.model.NAME)\n",
    )
    assert run(build(project, "trainer/train.py", setup_extras=("more",))) == "1.5 model\n"


def test_apt_packages_are_installed(build: Callable[..., str], project: Project, run: Run) -> None:
    project.write(CONFIG_FILE, f'{{"base_image": "{project.base_image}", "apt_packages": ["hello"]}}')
    assert run(build(project), entrypoint=["hello"]) == "Hello, world!\n"


def test_the_message_of_apt_about_an_unknown_package_is_the_cause(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    project.write(CONFIG_FILE, f'{{"base_image": "{project.base_image}", "apt_packages": ["no-such-package-here"]}}')
    error = failure(engine, project, user, reporter)
    assert "Unable to locate package no-such-package-here" in (error.cause or "")
    assert error.hint == 'check "apt_packages" in .calibanconfig.json'


def test_environment_yml_without_conda_in_the_base_image_is_an_error(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    project.write("environment.yml", "dependencies: []\n")
    error = failure(engine, project, user, reporter)
    assert error.cause == "environment.yml needs a base image with conda or mamba"


@contextmanager
def conda_that(engine: Engine, project: Project, does: str) -> Iterator[None]:
    """Put a stand-in for conda, which is too large for a test, into the project's base image."""
    lines = ["#!/bin/sh", does]
    command = ["/bin/sh", "-c", 'printf "%s\\n" "$@" > /usr/bin/conda; chmod 755 /usr/bin/conda', "sh", *lines]
    text = f"FROM {project.base_image}\nRUN {json.dumps(command)}\n"
    name = f"caliban-test-conda:{uuid.uuid4().hex}"
    engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
    project.write(CONFIG_FILE, json.dumps({"base_image": name}))
    try:
        yield
    finally:
        engine.client.images.remove(name)


def test_environment_yml_is_installed_by_the_conda_of_the_base_image(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter, run: Run
) -> None:
    with conda_that(engine, project, "echo $@ >> /conda-was-asked"):
        project.write("environment.yml", "dependencies: []\n")
        image = engine.build(project.spec(), user, reporter)
        asked = run(image, "/conda-was-asked", entrypoint=["cat"])
    assert asked.splitlines()[0] == "env update --name base --file /opt/caliban/conda/environment.yml"


def test_a_failed_step_has_its_last_lines_as_the_cause(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    project.write("requirements.txt", "six==0.0.0.no-such-version\n")
    error = failure(engine, project, user, reporter)
    assert error.id == "build-step-failed"
    assert "(install requirements.txt) failed with exit code 1" in error.message
    assert "six==0.0.0.no-such-version" in (error.cause or "")
    assert len((error.cause or "").splitlines()) <= 20


@pytest.mark.parametrize("image", ["caliban-no-such-image:1", "registry.invalid/no/such:1", "UPPER/case:1"])
def test_a_base_image_that_is_not_available_has_an_error_of_its_own(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter, image: str
) -> None:
    project.write(CONFIG_FILE, f'{{"base_image": "{image}"}}')
    error = failure(engine, project, user, reporter)
    assert error.id == "base-image-unavailable"
    assert image in error.message
    assert error.cause
    assert '"base_image" in .calibanconfig.json' in (error.hint or "")


def test_dockerignore_is_respected(build: Callable[..., str], project: Project, run: Run) -> None:
    project.write(".dockerignore", "# big things\n*.bin\n!keep.bin\nsecret\n")
    for name in ("drop.bin", "keep.bin", "secret/x", ".git/config", "a/__pycache__/x.pyc", "a/x.py"):
        project.write(name, "x")
    listing = run(build(project), "-c", "find . -type f | sort", entrypoint=["sh"])
    assert listing.split() == ["./.dockerignore", "./a/x.py", "./cpu.py", "./keep.bin"]


NAMES = ["a b.txt", "it's.txt", 'say "hi".txt', "$HOME.txt", "[x]*.txt", "back\\slash.txt", "new\nline.txt", "ü.txt"]


def test_files_may_have_any_name(build: Callable[..., str], project: Project, run: Run) -> None:
    for name in NAMES:
        project.write(name, "x")
        project.write(f"extra {name}/file", "x")
    project.write("cpu.py", "import os\nprint(sorted(os.listdir()))\n")
    image = build(project, extra_dirs=tuple(f"extra {name}" for name in NAMES))
    expected = sorted(["cpu.py", *NAMES, *(f"extra {name}" for name in NAMES)])
    assert run(image) == f"{expected}\n"


@pytest.mark.parametrize("name", ['my script\'s "$x".py', "[a]*.py", "new\nline.py", "back\\slash.py"])
def test_a_script_of_any_name_runs(build: Callable[..., str], project: Project, run: Run, name: str) -> None:
    project.write(name, "print('ran')\n")
    assert run(build(project, name)) == "ran\n"


def test_a_planted_credential_is_not_in_the_image(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter, run: Run
) -> None:
    project.write(".dockerignore", "!key.json\n")
    project.write("key.json", '{"type": "service_account", "private_key": "planted-secret"}')
    project.write("named.txt", "planted-secret")
    project.write(".creds/token", "planted-secret")
    project.write("deep/application_default_credentials.json", "planted-secret")
    environ = {**os.environ, "GOOGLE_APPLICATION_CREDENTIALS": str(project.directory / "named.txt")}
    image = Engine(engine.client, engine.host, environ, secret_files()).build(project.spec(), user, reporter)
    found = run(image, "-c", "grep -rl planted-secret /usr/app /opt /home || echo none", entrypoint=["sh"])
    assert found == "none\n"
    assert [line.split()[0] for line in reporter.warnings] == [
        ".creds",
        "deep/application_default_credentials.json",
        "key.json",
        "named.txt",
    ]


def test_a_link_is_copied_as_a_link(build: Callable[..., str], project: Project, run: Run, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("not to be read")
    (project.directory / "out").symlink_to("../outside")
    (project.directory / "absolute").symlink_to(tmp_path / "outside")
    project.write("cpu.py", "import os\nprint(os.readlink('out'), os.readlink('absolute'))\n")
    assert run(build(project)) == f"../outside {tmp_path / 'outside'}\n"


def test_progress_counts_bytes_first_and_then_every_step(
    build: Callable[..., str], project: Project, reporter: RecordingReporter
) -> None:
    build(project)
    assert [(title, unit) for title, _, unit in reporter.titles] == [("build context", "B"), ("build", "step")]
    assert reporter.done == [total for _, total, _ in reporter.titles]
    assert "copy the code" in reporter.notes


def test_images_carry_our_label(build: Callable[..., str], project: Project, engine: Engine) -> None:
    assert LABELS.items() <= engine.client.images.get(build(project)).labels.items()


def test_an_existing_image_is_found(engine: Engine, base_image: str) -> None:
    assert engine.image_exists(base_image)
    assert engine.image_id(base_image).startswith("sha256:")


def test_a_missing_image_has_an_error_of_its_own(engine: Engine) -> None:
    assert not engine.image_exists("caliban-no-such-image:1")
    with pytest.raises(ImageError) as caught:
        engine.image_id("caliban-no-such-image:1")
    assert caught.value.id == "image-not-found"


def test_an_invalid_image_name_is_rejected_by_the_engine(engine: Engine) -> None:
    with pytest.raises(ImageError) as caught:
        engine.image_id("UPPER case")
    assert caught.value.id == "docker-refused"
    assert "invalid reference format" in (caught.value.cause or "")


class Interrupting(RecordingReporter):
    """A user who presses Ctrl-C when a step writes its first line."""

    def info(self, *lines: str) -> None:
        super().info(*lines)
        if "started" in lines:
            raise KeyboardInterrupt


def test_an_interrupted_build_stops_in_the_engine_too(
    engine: Engine, project: Project, base_image: str, user: BuildUser
) -> None:
    label = f"{SESSION_LABEL}={base_image.split(':')[1]}"

    def containers() -> set[str]:
        return {entry["Id"] for entry in engine.client.api.containers(all=True, filters={"label": label})}

    with conda_that(engine, project, "echo started; exec sleep 200"):
        project.write("environment.yml", "dependencies: []\n")
        before = containers()
        with pytest.raises(KeyboardInterrupt):
            engine.build(project.spec(), user, Interrupting())
        give_up = time.monotonic() + 60
        while containers() - before and time.monotonic() < give_up:
            time.sleep(0.2)
        assert containers() <= before


def test_a_file_that_is_truncated_while_it_is_sent_ends_the_build(
    engine: Engine, project: Project, user: BuildUser, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project.write("data.bin", "x" * 10_000)
    monkeypatch.setattr(reporter, "warn", lambda _: file.write_text("short"))
    project.write(".netrc", "")
    assert failure(engine, project, user, reporter).id == "context-changed"


@pytest.fixture
def dying_engine() -> Iterator[str]:
    """Listen like an engine that tells its version, starts a build, and goes away in the middle of a step."""
    version = b'{"ApiVersion": "1.41"}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    event = b'{"stream": "Step 1/2 : FROM x\\n"}\r\n'
    answers = [
        head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(version) + version,
        head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(event) + event + b"\r\n",
    ]
    with listening_socket() as (listening, path):

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    received = b""
                    while not received.endswith((b"0\r\n\r\n", b"\r\n\r\n")) or received.startswith(b"POST") != (
                        b"\r\n0\r\n\r\n" in received
                    ):
                        received += connection.recv(65536)
                    connection.sendall(answer)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield f"unix://{path}"
        server.join(10)


def test_an_engine_that_disconnects_during_a_build_is_unreachable(
    dying_engine: str, project: Project, user: BuildUser, reporter: RecordingReporter
) -> None:
    engine = Engine.connect({"DOCKER_HOST": dying_engine})
    assert failure(engine, project, user, reporter).id == "docker-unreachable"
    engine.close()


def connection_failure(host: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_HOST": host})
    assert caught.value.id == "docker-unreachable"
    return caught.value


def test_a_missing_socket_has_a_hint_to_start_docker() -> None:
    error = connection_failure("unix:///nonexistent/sock")
    assert error.cause == "No such file or directory"
    assert "start Docker" in (error.hint or "")


def test_a_port_where_nothing_listens_has_a_hint_to_start_docker() -> None:
    error = connection_failure("tcp://127.0.0.1:1")
    assert error.cause == "Connection refused"


def test_a_socket_without_permission_has_a_hint_about_the_docker_group() -> None:
    code = (
        "import os, sys, docker\nfrom caliban.errors import ImageError\n"
        "from caliban.images.docker.engine import Engine\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    Engine.connect({'DOCKER_HOST': sys.argv[1]})\n"
        "except ImageError as error:\n    sys.stdout.write(f'{error.cause}: {error.hint}')\n"
    )
    with listening_socket() as (_, path):
        path.chmod(0)
        path.parent.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, f"unix://{path}"], capture_output=True, text=True, check=True
        )
    assert done.stdout.startswith("Permission denied: ")
    assert "docker" in done.stdout


def test_the_password_of_an_invalid_docker_host_is_in_no_message() -> None:
    error = connection_failure("nonsense://user:planted-secret@example.com")
    assert "planted-secret" not in f"{error.message} {error.cause} {error.hint}"


def test_missing_certificates_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        Engine.connect(
            {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"}
        )
    assert "TLS" in (caught.value.cause or "")


def test_importing_the_engine_imports_no_docker() -> None:
    code = (
        "import sys, caliban.images.docker.engine\nsys.exit(int(any(n.split('.')[0] == 'docker' for n in sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
