"""An engine behind ``ssh``: docker-py and the docker client reach it in the same way."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.docker.ssh_address import SshAddress
from caliban.images.dockerfile import BuildUser
from tests.images.helpers import Project, RecordingReporter
from tests.images.silent_engine import SilentEngine, silent_engine

HOST = "ssh://totoro@catbus:2222"
# Connects its standard streams to the socket, as `docker system dial-stdio` does at the other end.
_SSH = """\
#!{python} -ISE
import json, os, select, socket, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
engine = socket.socket(socket.AF_UNIX)
engine.connect({socket!r})
ends = {{0: lambda data: engine.sendall(data), engine.fileno(): lambda data: os.write(1, data)}}
while True:
    for each in select.select(list(ends), [], [])[0]:
        data = os.read(each, 65536)
        if not data:
            sys.exit(0)
        ends[each](data)
"""


@pytest.fixture
def silent() -> Iterator[SilentEngine]:
    with silent_engine() as engine:
        yield engine


@pytest.fixture
def environ(silent: SilentEngine, tmp_path: Path) -> dict[str, str]:
    calls = str(tmp_path / "calls")
    return environ_with(
        tmp_path, _SSH.format(python=sys.executable, calls=calls, socket=silent.host.removeprefix("unix://"))
    )


def environ_with(directory: Path, script: str) -> dict[str, str]:
    """Return the environment of a machine whose ``ssh`` is ``script``."""
    program = directory / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin", "DOCKER_HOST": HOST, "DOCKER_CONFIG": str(directory)}


def failure(environ: dict[str, str]) -> ImageError:
    with pytest.raises(ImageError) as caught:
        Engine.connect(environ)
    assert caught.value.id == "docker-unreachable"
    return caught.value


def test_an_engine_behind_ssh_answers(environ: dict[str, str], silent: SilentEngine) -> None:
    with closing(Engine.connect(environ)) as connected:
        assert connected.image_exists("x:1")
    assert silent.requests == ["GET /version", "GET /images/x:1/json"]


def test_ssh_is_run_as_the_docker_client_runs_it(environ: dict[str, str], tmp_path: Path) -> None:
    Engine.connect(environ).close()
    expected = '["-o", "ConnectTimeout=30", "-T", "-l", "totoro", "-p", "2222", "--", "catbus", "docker", "system"'
    assert (tmp_path / "calls").read_text().startswith(expected)


def test_a_connection_is_used_again(environ: dict[str, str], tmp_path: Path) -> None:
    with closing(Engine.connect(environ)) as connected:
        for _ in range(5):
            connected.image_exists("x:1")
    assert len((tmp_path / "calls").read_text().splitlines()) == 2  # one for the version of the API


def children() -> set[str]:
    """Return the ids of the processes that this one has started and that exist, ended ones included."""
    lists = Path("/proc/self/task").glob("*/children")
    return {child for each in lists for child in each.read_text().split()}


def test_no_ssh_is_left_behind(environ: dict[str, str]) -> None:
    before = children()
    with closing(Engine.connect(environ)) as connected:
        connected.image_exists("x:1")
        assert children() > before
    gc.collect()
    assert children() == before


def test_a_silent_engine_behind_ssh_is_given_up_at_the_timeout(environ: dict[str, str], silent: SilentEngine) -> None:
    with closing(Engine.connect(environ)) as connected:
        silent.pings = False
        connected.client.api.timeout = 0.05  # type: ignore[assignment]  # seconds
        with pytest.raises(ImageError) as caught, connected.translate_errors():
            connected.client.api.ping()
    assert caught.value.id == "docker-unreachable"


def test_a_missing_ssh_command_is_the_cause(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = failure({"PATH": str(tmp_path / "empty"), "DOCKER_HOST": HOST, "DOCKER_CONFIG": str(tmp_path)})
    assert error.cause == "cannot run ssh: No such file or directory"
    assert "OpenSSH client" in (error.hint or "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("totoro@catbus: Permission denied (publickey).", "ssh-copy-id"),
        ("Host key verification failed.", "accept the key of the host"),
        (
            "ssh: connect to host catbus port 2222: Connection refused",
            "ssh -p 2222 catbus docker version",
        ),
        (
            "ssh: Could not resolve hostname catbus: not known",
            "ssh -p 2222 catbus docker version",
        ),
        (
            "failed to open the raw stream connection: dial unix /x: no such file",
            "start Docker",
        ),
        ("failed to open the raw stream connection: connect: permission denied", "join the group docker"),
        ("bash: line 1: docker: command not found", "install the docker command there"),
    ],
)
def test_what_ssh_reports_is_the_cause(tmp_path: Path, words: str, hint: str) -> None:
    error = failure(environ_with(tmp_path, f"#!/bin/sh\necho '{words}' >&2\nexit 255\n"))
    assert error.cause == words
    assert hint in (error.hint or "")


def test_an_ssh_that_ends_without_a_word_is_an_error(tmp_path: Path) -> None:
    assert failure(environ_with(tmp_path, "#!/bin/sh\nexit 1\n")).cause


def test_a_context_can_name_an_engine_behind_ssh(environ: dict[str, str], tmp_path: Path) -> None:
    import hashlib
    import json

    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": "far", "Endpoints": {"docker": {"Host": "ssh://catbus"}}}))
    del environ["DOCKER_HOST"]
    connected = Engine.connect({**environ, "DOCKER_CONTEXT": "far"})
    connected.close()
    assert connected.host == "ssh://catbus (docker context far)"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://catbus", SshAddress("catbus")),
        ("ssh://Cat.bus", SshAddress("Cat.bus")),
        ("ssh://totoro@catbus:22", SshAddress("catbus", "totoro", 22)),
        ("ssh://totoro%40lab@catbus", SshAddress("catbus", "totoro@lab")),
        ("ssh://[fe80::1]:22", SshAddress("fe80::1", None, 22)),
        ("ssh://catbus/run/user/1000/docker.sock", SshAddress("catbus", socket="/run/user/1000/docker.sock")),
        ("ssh://catbus/", SshAddress("catbus")),
    ],
)
def test_an_address_is_read_as_docker_reads_it(text: str, address: SshAddress) -> None:
    assert SshAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    ["ssh://", "ssh://totoro@", "ssh://catbus:x", "ssh://catbus?x", "ssh://catbus#x", "ssh://u:planted-secret@catbus"],
)
def test_a_malformed_address_is_an_error_without_its_password(text: str, tmp_path: Path) -> None:
    error = failure({"DOCKER_HOST": text, "DOCKER_CONFIG": str(tmp_path)})
    assert "planted-secret" not in f"{error.message} {error.cause} {error.hint}"
    assert error.cause


def test_the_socket_of_an_address_is_one_word_for_the_shell_there() -> None:
    command = SshAddress("catbus", socket="/a b;c/docker.sock").command()
    assert command[-4:] == ["docker", "'--host=unix:///a b;c/docker.sock'", "system", "dial-stdio"]


def test_a_host_that_looks_like_an_option_is_none() -> None:
    command = SshAddress.parse("ssh://-oProxyCommand=x").command()
    assert command[command.index("--") + 1] == "-oProxyCommand=x"


def test_an_image_is_built_through_ssh(
    engine: Engine, project: Project, tmp_path: Path, user: BuildUser, reporter: RecordingReporter
) -> None:
    """With the real engine, and docker's own `system dial-stdio`; only the network in between is missing."""
    script = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nDOCKER_HOST={} exec "$@"\n'
    own = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    environ = {**os.environ, **environ_with(tmp_path, script.format(own))}
    environ["PATH"] = f"{environ['PATH']}:{os.environ['PATH']}"
    with closing(Engine.connect(environ)) as connected:
        image = connected.build(project.spec(), user, reporter)
    assert engine.image_exists(image)


def test_ctrl_c_of_the_terminal_does_not_reach_ssh(environ: dict[str, str]) -> None:
    with closing(Engine.connect(environ)) as connected:
        connected.image_exists("x:1")
        children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
        sessions = {os.getsid(int(each)) for each in children if each}
    assert os.getsid(0) not in sessions
