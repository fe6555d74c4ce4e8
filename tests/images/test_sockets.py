"""Where docker's engine does not answer and another one does, the hint is the command that chooses that one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from caliban.images.docker import sockets
from caliban.images.docker.sockets import choice_hint, start_hint
from caliban.images.docker.unreachable import unreachable

DEFAULT = "unix:///var/run/docker.sock"


@pytest.fixture(autouse=True)
def users_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the socket that this machine may have for all users."""
    own = [each for each in sockets._PRODUCTS if not each.patterns[0].startswith("/")]
    monkeypatch.setattr(sockets, "_PRODUCTS", own)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "DOCKER_CONFIG": str(home / ".docker")}


@pytest.fixture
def listen(home: Path) -> Iterator[Callable[[str], Path]]:
    with ExitStack() as stack:

        def listen(name: str) -> Path:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(path))
            listening.listen()
            return path

        yield listen


def add_context(directory: Path, name: str, host: str) -> None:
    path = directory / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("run/docker.sock", "rootless Docker"),
        (".docker/desktop/docker.sock", "Docker Desktop"),
        (".docker/run/docker.sock", "Docker Desktop"),
        (".colima/default/docker.sock", "colima"),
        (".colima/lab/docker.sock", "colima"),
        (".config/colima/default/docker.sock", "colima"),
        (".rd/docker.sock", "Rancher Desktop"),
        (".orbstack/run/docker.sock", "OrbStack"),
        (".lima/docker/sock/docker.sock", "Lima"),
        ("run/podman/podman.sock", "Podman"),
        (".local/share/containers/podman/machine/podman.sock", "Podman"),
        (".local/share/containers/podman/machine/qemu/podman.sock", "Podman"),
    ],
)
def test_an_engine_that_answers_elsewhere_is_named_with_the_command_that_chooses_it(
    environ: dict[str, str], listen: Callable[[str], Path], name: str, product: str
) -> None:
    path = listen(name)
    assert choice_hint(DEFAULT, environ) == f"to use {product}: export DOCKER_HOST=unix://{path}"


def test_a_context_that_names_the_engine_is_chosen_instead(
    environ: dict[str, str], home: Path, listen: Callable[[str], Path]
) -> None:
    add_context(home / ".docker", "colima", f"unix://{listen('.colima/default/docker.sock')}")
    assert choice_hint(DEFAULT, environ) == "to use colima: docker context use colima"


@pytest.mark.parametrize("variable", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_no_context_is_chosen_where_a_variable_would_take_precedence(
    environ: dict[str, str], home: Path, listen: Callable[[str], Path], variable: str
) -> None:
    path = listen(".colima/default/docker.sock")
    add_context(home / ".docker", "colima", f"unix://{path}")
    hint = choice_hint("unix:///nowhere.sock", {**environ, variable: "unix:///nowhere.sock"})
    assert hint == f"to use colima: export DOCKER_HOST=unix://{path}"


def test_an_unreadable_context_is_left_out(environ: dict[str, str], home: Path, listen: Callable[[str], Path]) -> None:
    path = listen(".rd/docker.sock")
    meta = home / ".docker" / "contexts" / "meta" / "x" / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text("{")
    assert choice_hint(DEFAULT, environ) == f"to use Rancher Desktop: export DOCKER_HOST=unix://{path}"


def test_a_socket_on_which_nothing_listens_is_not_named(environ: dict[str, str], home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        (home / "run").mkdir()
        stale.bind(str(home / "run" / "docker.sock"))
    (home / ".rd").mkdir()
    (home / ".rd" / "docker.sock").write_text("no socket")
    assert choice_hint(DEFAULT, environ) is None


def test_the_socket_that_does_not_answer_is_not_named(environ: dict[str, str], listen: Callable[[str], Path]) -> None:
    assert choice_hint(f"unix://{listen('run/docker.sock')}", environ) is None


def test_a_socket_of_two_names_is_named_once(
    environ: dict[str, str], home: Path, listen: Callable[[str], Path]
) -> None:
    path = listen("run/docker.sock")
    (home / ".rd").mkdir()
    (home / ".rd" / "docker.sock").symlink_to(path)
    assert choice_hint(DEFAULT, environ) == f"to use rootless Docker: export DOCKER_HOST=unix://{path}"


def test_the_directory_of_runtime_files_has_a_default(environ: dict[str, str]) -> None:
    del environ["XDG_RUNTIME_DIR"]
    usual = f"unix:///run/user/{os.getuid()}/docker.sock"
    assert start_hint(usual, environ) == "start rootless Docker: systemctl --user start docker"


def test_variables_that_are_missing_or_relative_name_nothing(environ: dict[str, str]) -> None:
    assert (
        choice_hint(DEFAULT, {"DOCKER_CONFIG": environ["DOCKER_CONFIG"], "HOME": "x", "XDG_RUNTIME_DIR": "y"}) is None
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (".colima/default/docker.sock", "start colima: colima start"),
        (".docker/desktop/docker.sock", "start Docker Desktop: docker desktop start"),
        ("run/docker.sock", "start rootless Docker: systemctl --user start docker"),
        ("run/podman/podman.sock", "start Podman: systemctl --user start podman.socket"),
        ("elsewhere/docker.sock", None),
    ],
)
def test_the_engine_that_is_not_running_is_named_with_the_command_that_starts_it(
    environ: dict[str, str], home: Path, name: str, hint: str | None
) -> None:
    assert start_hint(f"unix://{home / name}", environ) == hint


def test_the_hint_of_an_engine_without_a_socket_has_both(
    environ: dict[str, str], home: Path, listen: Callable[[str], Path]
) -> None:
    path = listen("run/docker.sock")
    stopped = f"unix://{home}/.colima/default/docker.sock (docker context colima)"
    error = unreachable(FileNotFoundError(2, "No such file or directory"), stopped, environ)
    expected = f"start colima: colima start; or to use rootless Docker: export DOCKER_HOST=unix://{path}"
    assert (error.id, error.hint) == ("docker-unreachable", expected)


def test_a_user_without_permission_may_use_an_engine_of_their_own(
    environ: dict[str, str], listen: Callable[[str], Path]
) -> None:
    path = listen("run/docker.sock")
    hint = unreachable(PermissionError(13, "Permission denied"), DEFAULT, environ).hint or ""
    assert hint.startswith("join the group docker")
    assert hint.endswith(f"; or to use rootless Docker: export DOCKER_HOST=unix://{path}")


def test_a_connection_that_was_lost_names_no_other_engine(listen: Callable[[str], Path]) -> None:
    listen("run/docker.sock")
    assert unreachable(ConnectionRefusedError(), DEFAULT).hint == "start Docker, or set DOCKER_HOST"
