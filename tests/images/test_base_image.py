"""What a base image sets up is extended, and what cannot be kept is said."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE, ProjectConfig
from caliban.errors import ImageError
from caliban.images.base_image import BaseImage
from caliban.images.docker.base_image import inspect_base_image
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser, dockerfile
from caliban.images.entrypoint import Entrypoint
from caliban.images.instruction import Instruction
from caliban.images.package import Package
from caliban.images.spec import BuildSpec
from caliban.records import JobMode

from .helpers import Project, RecordingReporter
from .registry.registries import Answer, error, front

Run = Callable[..., str]
USER = BuildUser(1234, 2345, "mei")
SPEC = BuildSpec(
    build_path=Path("/home/u/proj"),
    package=Package(("python",), ".", "cpu.py"),
    job_mode=JobMode.CPU,
    config=ProjectConfig(),
    requirements_path="requirements.txt",
    setup_extras=("cpu",),
)


def lines(base: BaseImage, user: BuildUser = USER, spec: BuildSpec = SPEC) -> list[str]:
    return dockerfile(spec, user, base).splitlines()


def base_with(**config: object) -> BaseImage:
    return BaseImage.parse(config)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Env": None, "Entrypoint": None, "User": None, "OnBuild": None, "Volumes": None, "Labels": None},
        {"Env": 5, "Entrypoint": "x", "User": 5, "OnBuild": {}, "Volumes": [], "Labels": []},
        {"Env": [5], "Entrypoint": [None], "OnBuild": [1], "Volumes": {}},
    ],
)
def test_a_base_image_that_sets_up_nothing_changes_nothing(config: dict[str, object]) -> None:
    base = BaseImage.parse(config)
    assert (lines(base), list(base.warnings("x"))) == (lines(BaseImage()), [])


def test_the_module_path_of_the_base_image_follows_ours() -> None:
    assert "ENV PYTHONPATH=/usr/app:/usr/app/src${PYTHONPATH:+:$PYTHONPATH}" in lines(BaseImage())


def test_the_home_directory_is_one_that_the_user_may_write_to() -> None:
    base = base_with(Env=["HOME=/home/bob", "XDG_CACHE_HOME=/home/bob/.cache/", "XDG_DATA_HOME=/data"])
    assert 'ENV HOME="/home/caliban" XDG_CACHE_HOME="/home/caliban/.cache"' in lines(base)


def test_root_keeps_the_home_directory_of_the_base_image() -> None:
    assert not [line for line in lines(base_with(Env=["HOME=/home/bob"]), BuildUser(0, 0, "root")) if "HOME=" in line]


def test_dependencies_are_installed_in_the_environment_that_the_entrypoint_activates() -> None:
    base = BaseImage(entrypoint=Entrypoint(("conda", "run", "-n", "x"), (), activates=True))
    pip = [line for line in lines(base) if '"pip"' in line]
    assert [line.startswith('RUN ["conda", "run", "-n", "x", ') for line in pip] == [True, True]


def test_an_entrypoint_that_activates_nothing_is_not_used_while_dependencies_are_installed() -> None:
    base = BaseImage(entrypoint=Entrypoint(("tini", "--")))
    assert [line for line in lines(base) if "tini" in line and line.startswith("RUN")][1:] == []


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"OnBuild": ["COPY . /src"]}, "ONBUILD COPY . /src"),
        ({"OnBuild": ["add x /y"]}, "ONBUILD add x /y"),
        ({"Volumes": {"/opt/conda": {}}, "Env": ["PATH=/opt/conda/bin:/bin"]}, "the volume /opt/conda"),
        ({"Entrypoint": ["jupyter"]}, 'does not run the program that it is given: ["jupyter"]'),
    ],
)
def test_what_cannot_be_kept_is_said_in_a_line(config: dict[str, object], text: str) -> None:
    (warning,) = BaseImage.parse(config).warnings("lab/base:1")
    assert text in warning
    assert "lab/base:1" in warning


@pytest.mark.parametrize(
    "config",
    [
        {"OnBuild": ["RUN make", "COPY --from=tools /a /b", "ENV A=1"]},
        {"Volumes": {"/data": {}}, "Env": ["PATH=/bin"]},
        {"User": "bob", "WorkingDir": "/x", "Shell": ["bash", "-c"], "Cmd": ["x"], "StopSignal": "SIGINT"},
        {"Entrypoint": ["python", "cpu.py"], "Labels": {"caliban": "image"}},
    ],
)
def test_what_is_kept_or_replaced_for_everybody_is_not_mentioned(config: dict[str, object]) -> None:
    assert list(BaseImage.parse(config).warnings("x")) == []


@pytest.mark.parametrize(
    ("user", "entry"),
    [
        ("", "root:[^:]*:[^:]*:[^:]*:"),
        ("bob", "bob:[^:]*:[^:]*:[^:]*:"),
        ("bob:users", "bob:[^:]*:[^:]*:[^:]*:"),
        ("1000:100", "[^:]*:[^:]*:1000:[^:]*:"),
        ("a/b.*", "root:[^:]*:[^:]*:[^:]*:"),
    ],
)
def test_the_home_of_the_base_images_user_is_found_by_name_or_uid(user: str, entry: str) -> None:
    assert base_with(User=user).passwd_entry == entry


WRAPPER = '#!/bin/sh\nexport ACTIVATED=1\nexec "$@"\n'
SCRIPT = """\
import os, pathlib, sys
home = pathlib.Path.home()
(home / ".cache").mkdir()
pathlib.Path("written").touch()
try:
    import inherited
    found = True
except ImportError:
    found = False
print(os.getuid(), home, os.environ.get("ACTIVATED"), found, *sys.argv[1:])
"""


@pytest.fixture
def build_on(engine: Engine, project: Project, base_image: str, reporter: RecordingReporter) -> Callable[..., str]:
    """Build the project on a base image with further instructions."""

    def build_on(*instructions: str, file: str = WRAPPER, mode: int = 0o755) -> str:
        text = "\n".join([f"FROM {base_image}", *instructions])
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as context:
            for name, content in (("Dockerfile", text), ("file", file)):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), mode
                context.addfile(info, io.BytesIO(content.encode()))
        archive.seek(0)
        name = f"caliban-test-base:{uuid.uuid4().hex}"
        engine.client.images.build(fileobj=archive, custom_context=True, tag=name, rm=True, forcerm=True)
        project.write("cpu.py", SCRIPT)
        project.write(CONFIG_FILE, json.dumps({"base_image": name}))
        return engine.build(project.spec(), USER, reporter)

    return build_on


BOB = "RUN useradd --create-home bob"
INSTALL = (
    "mkdir -p $({0} -c 'import site; print(site.{1})') && touch $({0} -c 'import site; print(site.{1})')/inherited.py"
)


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ([BOB, "ENV HOME=/home/bob", "USER bob"], "1234 /home/caliban None False a b\n"),
        (["VOLUME /usr/app /home"], "1234 /opt/caliban/home None False a b\n"),
        (["RUN mkdir /lib/x && touch /lib/x/inherited.py", "ENV PYTHONPATH=/lib/x"], "1234 /home/mei None True a b\n"),
        (
            [BOB, "USER bob", f"RUN {INSTALL.format('python3', 'getusersitepackages()')}"],
            "1234 /home/mei None True a b\n",
        ),
        (
            [
                "RUN python3 -m venv --without-pip /root/env",
                f"RUN {INSTALL.format('/root/env/bin/python', 'getsitepackages()[0]')}",
                "ENV PATH=/root/env/bin:$PATH",
            ],
            "1234 /home/mei None True a b\n",
        ),
        (["COPY file /root/start", 'ENTRYPOINT ["/root/start"]', 'CMD ["serve"]'], "1234 /home/mei 1 False a b\n"),
        (
            [
                "COPY file /opt/start",
                "RUN ln -s /opt/start /usr/local/bin/run",
                'ENTRYPOINT ["env", "run", "python3", "x.py"]',
            ],
            "1234 /home/mei 1 False a b\n",
        ),
        (
            ['SHELL ["/bin/false", "-c"]', "WORKDIR /x", "STOPSIGNAL SIGINT", "ONBUILD ENV ACTIVATED=2"],
            "1234 /home/mei 2 False a b\n",
        ),
    ],
    ids=["HOME", "VOLUME", "PYTHONPATH", "user site", "PATH", "ENTRYPOINT", "link", "SHELL and ONBUILD"],
)
def test_a_program_runs_in_what_the_base_image_set_up(
    build_on: Callable[..., str], run: Run, instructions: list[str], expected: str
) -> None:
    assert run(build_on(*instructions), "a", "b") == expected


def test_a_script_that_only_root_may_run_runs_for_our_user(build_on: Callable[..., str], run: Run) -> None:
    image = build_on("COPY file /start", 'ENTRYPOINT ["/start"]', mode=0o700)
    assert run(image) == "1234 /home/mei 1 False\n"


def test_labels_health_checks_and_stop_signals_are_kept(build_on: Callable[..., str], engine: Engine) -> None:
    image = build_on("LABEL lab=x", "HEALTHCHECK CMD true", "STOPSIGNAL SIGINT", 'CMD ["serve"]')
    config = engine.client.images.get(image).attrs["Config"]
    found = config["Labels"]["lab"], config["Healthcheck"]["Test"], config["StopSignal"], config.get("Cmd")
    assert found == ("x", ["CMD-SHELL", "true"], "SIGINT", None)


def test_no_container_is_left_behind(build_on: Callable[..., str], engine: Engine) -> None:
    build_on("COPY file /start", 'ENTRYPOINT ["/start"]')
    assert engine.client.api.containers(all=True, filters={"label": "caliban=base-image"}) == []


def test_what_is_not_kept_is_said_before_the_build(
    build_on: Callable[..., str], run: Run, reporter: RecordingReporter
) -> None:
    image = build_on("COPY file /start", 'ENTRYPOINT ["/start"]', file='#!/bin/sh\nexec server "$@"\n')
    assert run(image) == "1234 /home/mei None False\n"
    assert [warning.partition(": ")[2] for warning in reporter.warnings] == ['["/start"]']


def test_a_base_image_is_looked_at_after_it_was_pulled(
    engine: Engine, registry: str, project: Project, build_on: Callable[..., str], reporter: RecordingReporter, run: Run
) -> None:
    build_on("COPY file /start", 'ENTRYPOINT ["/start"]')
    local = json.loads((project.directory / CONFIG_FILE).read_text())["base_image"]
    name = f"{registry}/caliban-test-base:{uuid.uuid4().hex}"
    engine.client.images.get(local).tag(name)
    engine.client.images.push(name)
    for each in (name, local):
        engine.client.images.remove(each, noprune=True)
    project.write(CONFIG_FILE, json.dumps({"base_image": name}))
    image = engine.build(replace(project.spec(), no_cache=True), USER, reporter)
    assert run(image) == "1234 /home/mei 1 False\n"
    assert [title for title, _, _ in reporter.titles].count("base image") == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(429, error("TOOMANYREQUESTS", "You have reached your pull rate limit.")), "rate limit of localhost:"),
        (Answer(429, b"slow down"), "rate limit of localhost:"),
        (
            Answer(403, error("DENIED", "Your authorization token has expired. Reauthenticate.")),
            "has expired, for the ",
        ),
    ],
    ids=["limit", "limit without words", "expired"],
)
def test_a_base_image_that_a_registry_does_not_give_is_an_error_that_says_why(
    engine: Engine, registry: str, reporter: RecordingReporter, answer: Answer, message: str
) -> None:
    with front(registry, lambda request: answer if "/manifests/" in request.path else None) as strict:
        first = Instruction(f"FROM {strict.address}/lab/base:1", "pull the base image")
        with pytest.raises(ImageError) as caught:
            inspect_base_image(engine, first, reporter, None)
    assert (caught.value.id, message in caught.value.message) == ("base-image-unavailable", True)
