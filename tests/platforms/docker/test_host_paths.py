"""Paths in ``--docker_run_args`` mean the project's directory, wherever a job is run again."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from caliban.errors import PlatformError, UsageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import host_paths
from caliban.platforms.docker.job_spec import parse_command
from caliban.platforms.docker.launch import LAUNCHER, DockerLaunch
from caliban.platforms.docker.platform import DockerPlatform
from caliban.platforms.docker.run_arguments import RunArgumentsError, parse
from caliban.platforms.launch import LaunchContext

from .helpers import OutputReporter

PROJECT = Path("/work/project")
HOME = Path("/home/totoro")


def resolved(text: str, directory: Path | None = PROJECT) -> str:
    return shlex.join(host_paths.resolved(parse(shlex.split(text)), directory, HOME).words)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-v ./data:/data", "-v /work/project/data:/data"),
        ("-v./data:/data:ro", "-v/work/project/data:/data:ro"),
        ("-v=./data:/data", "-v=/work/project/data:/data"),
        ("-itv ./data:/data", "-i -t -v /work/project/data:/data"),
        ("--volume=./a/../b:/data", "--volume=/work/project/b:/data"),
        ("--volume .:/x", "--volume /work/project:/x"),
        ("-v ..:/x", "-v /work:/x"),
        ("-v ../data:/x:ro,z", "-v /work/data:/x:ro,z"),
        ("-v .cache:/x", "-v /work/project/.cache:/x"),
        ("-v ~/data:/x -v ~:/h", "-v /home/totoro/data:/x -v /home/totoro:/h"),
        ("--env-file .env", "--env-file /work/project/.env"),
        ("--env-file=a/b.env --label-file l", "--env-file=/work/project/a/b.env --label-file /work/project/l"),
        ("--security-opt seccomp=p.json", "--security-opt seccomp=/work/project/p.json"),
        ("--security-opt=seccomp:./p.json", "--security-opt=seccomp:/work/project/p.json"),
        ("--mount type=bind,source=./x,target=/x", "--mount type=bind,source=/work/project/x,target=/x"),
        ("--mount type=bind,src=x/y,dst=/x,readonly", "--mount type=bind,src=/work/project/x/y,dst=/x,readonly"),
        ("--mount Type=bind,SRC=../x,dst=/x", "--mount Type=bind,SRC=/work/x,dst=/x"),
        ("""--mount 'type=bind,"src=./a,b",dst=/x'""", """--mount 'type=bind,"src=/work/project/a,b",dst=/x'"""),
        ("--mount type=bind,src=~/x,dst=/x", "--mount type=bind,src=/home/totoro/x,dst=/x"),
        ("--device ./fuse:/dev/fuse:rwm", "--device /work/project/fuse:/dev/fuse:rwm"),
    ],
)  # fmt: skip
def test_a_path_is_that_of_the_projects_directory(given: str, expected: str) -> None:
    assert resolved(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "-v /data:/data -v /a/../b:/c",
        "-v name:/data -v my.volume_1:/data:ro",
        "-v /anonymous",
        "--mount type=volume,source=name,target=/data --mount source=name,target=/x",
        "--mount type=tmpfs,target=/x --tmpfs ./x",
        "--mount type=bind,target=/x",
        "--mount '\"type=bind,src=x'",
        "--env DATA=./data -e ./x=1 --workdir ./x --entrypoint ./run.sh --name ./x",
        "--security-opt seccomp=unconfined --security-opt seccomp=builtin --security-opt label=disable",
        "--security-opt no-new-privileges --security-opt apparmor=./profile",
        "--device /dev/fuse --device vendor.com/gpu=all",
        "--volumes-from ./x --label path=./x --annotation a=./b --log-opt tag=./x",
    ],
)
def test_what_is_no_relative_path_of_this_machine_is_left_as_it_is(given: str) -> None:
    assert host_paths.resolved(parse(shlex.split(given)), None, HOME) == parse(shlex.split(given))


def test_a_path_in_a_flag_that_only_the_installed_client_has_is_resolved_too() -> None:
    arguments = parse(["--pidfile", "./pid", "--other", "x/y"], lambda: {"pidfile": True, "other": True})
    assert host_paths.resolved(arguments, PROJECT, HOME).words == ("--pidfile", "/work/project/pid", "--other", "x/y")


@pytest.mark.parametrize(
    ("given", "problem", "hint"),
    [
        ("-v data/x:/d", '"data/x" is neither the name of a volume nor a path', "-v ./data/x:/d"),
        ("-v x:/d", '"x" is neither', "-v ./x:/d"),
        ("-v $HOME/data:/d", "docker does not expand a variable", "double quotes"),
        ("-v ~mei/data:/d", "docker does not expand the home directory of another user", "absolute path"),
        ("--env-file $PWD/.env", "docker does not expand a variable", "double quotes"),
        ("--mount type=bind,src=$PWD/x,dst=/x", "docker does not expand a variable", "double quotes"),
        ("-v ./data", "has no path in the container", "-v ./data:/data"),
        ("--mount source=./x,target=/x", "names a directory as if it were a volume", "type=bind"),
    ],
)
def test_what_docker_would_reject_after_the_build_is_rejected_before_it(given: str, problem: str, hint: str) -> None:
    with pytest.raises(RunArgumentsError) as caught:
        resolved(given.replace("$", "\\$"))
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_a_directory_with_a_colon_cannot_be_written_after_volume_and_can_after_mount() -> None:
    directory = Path("/work/a:b")
    with pytest.raises(RunArgumentsError, match="the path has a colon: /work/a:b/data"):
        resolved("-v ./data:/data", directory)
    assert resolved("--mount type=bind,src=./x,dst=/x", directory) == "--mount type=bind,src=/work/a:b/x,dst=/x"


@pytest.mark.parametrize("given", ["-v ./data:/data", "--env-file .env", "--mount type=bind,src=x,dst=/x"])
def test_a_relative_path_of_a_job_whose_directory_was_not_recorded_is_rejected(given: str) -> None:
    with pytest.raises(RunArgumentsError, match="is relative to a directory that was not recorded"):
        resolved(given, None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def prepare(project: Path, tmp_path: Path) -> Callable[..., DockerLaunch]:
    """Return what ``caliban run`` does with --docker_run_args before anything is built."""

    def prepare(text: str, **environ: str) -> DockerLaunch:
        parser = argparse.ArgumentParser()
        LAUNCHER.add_arguments(parser)
        context = LaunchContext("totoro", project, tmp_path, environ, datetime(2020, 5, 29), wants_gpu=False)
        return LAUNCHER.prepare(parser.parse_args(["--docker_run_args", text]), context)

    return prepare


def test_paths_are_recorded_absolute(prepare: Callable[..., DockerLaunch], project: Path) -> None:
    (project / "data").mkdir()
    (project / ".env").write_text("A=1\n")
    spec = prepare("-v ./data:/data --env-file .env -it").job_spec(1, [], "lab:1")
    expected = ("-v", f"{project}/data:/data", "--env-file", f"{project}/.env", "-i", "-t")
    assert parse_command(spec).docker_arguments[4:] == expected


def test_arguments_without_relative_paths_are_recorded_as_they_were_typed(prepare: Callable[..., DockerLaunch]) -> None:
    assert prepare("-itd -eA=1 -v name:/data").docker_run_args == ("-itd", "-eA=1", "-v", "name:/data")


@pytest.mark.parametrize("given", ["--env-file .env", "--label-file x", "--security-opt seccomp=p.json"])
def test_a_file_that_the_client_reads_must_exist_before_anything_is_built(
    prepare: Callable[..., DockerLaunch], given: str
) -> None:
    with pytest.raises(UsageError, match="file or directory not found") as caught:
        prepare(given, DOCKER_HOST="tcp://elsewhere:2375")
    assert caught.value.id == "docker-run-args-rejected"


def test_a_directory_of_the_project_that_docker_would_create_as_root_is_rejected(
    prepare: Callable[..., DockerLaunch], project: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        prepare("-v ./out:/out")
    assert "Docker would create a directory, empty and owned by root" in caught.value.message
    assert caught.value.hint == f"fix its path, or create a directory: mkdir -p {project}/out"
    assert not (project / "out").exists()


def test_a_missing_directory_of_a_mount_in_the_project_is_rejected(prepare: Callable[..., DockerLaunch]) -> None:
    with pytest.raises(UsageError, match="file or directory not found"):
        prepare("--mount type=bind,src=./out,dst=/out")


def test_a_missing_directory_elsewhere_causes_a_warning(prepare: Callable[..., DockerLaunch], tmp_path: Path) -> None:
    launch = prepare(f"-v {tmp_path}/gone:/data")
    warning = (
        f'file or directory not found: {tmp_path}/gone, of "-v {tmp_path}/gone:/data"; '
        "Docker would create a directory, empty and owned by root"
    )
    assert launch.warnings() == (warning,)


@pytest.mark.parametrize("host", ["tcp://elsewhere:2375", "ssh://totoro@elsewhere"])
def test_directories_of_an_engine_elsewhere_are_not_looked_for_here(
    prepare: Callable[..., DockerLaunch], host: str
) -> None:
    assert prepare("-v ./out:/out -v /gone:/data", DOCKER_HOST=host).warnings() == ()


def test_a_directory_that_this_user_may_not_look_at_is_not_reported(
    prepare: Callable[..., DockerLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, **how: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    assert prepare("-v /root/data:/data", DOCKER_HOST="unix:///run/docker.sock").warnings() == ()


def test_a_variable_that_is_passed_on_and_not_set_causes_a_warning(prepare: Callable[..., DockerLaunch]) -> None:
    launch = prepare("-e WANDB_API_KEY --env SET -e A=1 -eB=", SET="x")
    assert launch.warnings() == ("--env WANDB_API_KEY: WANDB_API_KEY is not set; the job runs without it",)


def test_the_value_of_a_variable_that_is_passed_on_is_not_recorded(prepare: Callable[..., DockerLaunch]) -> None:
    assert "hunter2" not in str(prepare("-e WANDB_API_KEY", WANDB_API_KEY="hunter2").job_spec(1, [], "lab:1"))


def recorded(*docker_arguments: str) -> dict[str, object]:
    return {"command": ["docker", "run", "--ipc", "host", *docker_arguments, "lab:1", "--foo"], "container": "lab:1"}


def test_a_relative_path_that_caliban_0_4_2_recorded_means_the_projects_directory(
    platform: DockerPlatform, project: Path
) -> None:
    (project / "data").mkdir()
    spec = platform.with_absolute_paths(recorded("-v", "./data:/data"), project)
    assert spec == recorded("-v", f"{project}/data:/data")


def test_a_spec_without_relative_paths_is_run_again_as_it_was_recorded(platform: DockerPlatform) -> None:
    spec = recorded("-it", "-v", "name:/data")
    assert platform.with_absolute_paths(spec, None) is spec


def test_a_recorded_relative_path_without_a_recorded_directory_is_an_error_before_anything_is_built(
    platform: DockerPlatform,
) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.with_absolute_paths(recorded("-v", "./data:/data"), None)
    assert (caught.value.id, caught.value.cause) == (
        "docker-run-args-rejected",
        '"-v ./data:/data" is relative to a directory that was not recorded',
    )


def test_what_a_rerun_would_not_find_is_reported_once(
    context: PlatformContext, reporter: OutputReporter, tmp_path: Path
) -> None:
    platform = DockerPlatform(replace(context, environ={**context.environ}))
    for _ in range(2):
        platform.with_absolute_paths(recorded("-e", "TOKEN", "-v", f"{tmp_path}/gone:/x"), tmp_path / "project")
    assert [line.partition(":")[0] for line in reporter.warnings] == ["file or directory not found", "--env TOKEN"]
