"""Against the Docker Engine that answers: what is ours goes with the last user, and nothing else does."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from services.base_image import archive_path, base_image, machine_files
from services.cache import is_held, locked
from services.engine import Engine, docker_engine
from services.engine_api import EngineApi, EngineRefusal
from services.shell import Failure

DEV = Path(__file__).resolve().parents[2] / "dev"

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("cache")]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "root.tar"
    (tmp_path / "file").write_text(secrets.token_hex(8))
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "file", "file")
    return path


def import_image(engine: Engine, archive: Path, label: str) -> str:
    tag = secrets.token_hex(6)
    engine.api.import_image(archive, "caliban-dev-test", tag, [f"LABEL {label}"])
    return f"caliban-dev-test:{tag}"


def test_what_carries_our_label_goes_with_the_last_user(archive: Path) -> None:
    with docker_engine() as engine:
        image = import_image(engine, archive, engine.label)
    assert not engine.api.has_image(image)


def test_what_carries_our_label_stays_while_somebody_uses_the_engine(archive: Path) -> None:
    with docker_engine() as engine:
        with docker_engine():
            image = import_image(engine, archive, engine.label)
        assert engine.api.has_image(image)


def test_what_is_not_ours_stays(archive: Path) -> None:
    with docker_engine() as engine:
        image = import_image(engine, archive, "somebody.else=1")
    assert engine.api.remove_image(image)


def test_what_carries_our_label_goes_when_its_user_is_killed(archive: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from services.engine import docker_engine\n"
        "with docker_engine() as engine:\n"
        "    engine.api.import_image(Path(sys.argv[1]), 'caliban-dev-test', sys.argv[2], [f'LABEL {engine.label}'])\n"
        "    print(engine.address, flush=True); time.sleep(60)\n"
    )
    tag = secrets.token_hex(6)
    process = subprocess.Popen([sys.executable, "-c", code, archive, tag], cwd=DEV, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    api = EngineApi(process.stdout.readline().strip())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while api.has_image(f"caliban-dev-test:{tag}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not api.has_image(f"caliban-dev-test:{tag}")


def test_the_base_image_that_is_there_is_taken_as_it_is(archive: Path) -> None:
    with docker_engine() as engine:
        made = archive_path(machine_files())
        made.write_bytes(archive.read_bytes())
        name = base_image(engine)
        made.unlink()
        assert base_image(engine) == name


def test_an_image_that_cannot_be_pulled_is_refused_in_the_engines_words() -> None:
    with docker_engine() as engine, pytest.raises(EngineRefusal, match="the Docker Engine says: "):
        engine.api.pull("localhost:1/nothing:here", patience=20)


def test_a_dead_socket_is_told_with_its_cause(tmp_path: Path) -> None:
    assert "No such file" in str(EngineApi("unix:///nonexistent/sock").answers())


def test_an_address_that_we_cannot_use_is_told() -> None:
    with pytest.raises(Failure, match="unix:// and tcp:// only"):
        EngineApi("ssh://me@example.com")


def test_a_shared_lock_lets_others_share(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True):
        assert not is_held(tmp_path / "lock", against_shared=True)


def test_a_shared_lock_keeps_the_guard_waiting(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True):
        assert is_held(tmp_path / "lock")


def test_a_lock_is_free_when_its_holder_has_gone(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        pass
    assert not is_held(tmp_path / "lock")


def test_a_lock_is_not_handed_to_child_processes(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert not is_held(tmp_path / "lock")
    finally:
        child.kill()
        child.wait()


def test_our_engine_is_told_to_be_for_root_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/sock")
    monkeypatch.setattr("services.engine.DEFAULT_SOCKET", "unix:///nonexistent/other-sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match="only root may start one"), docker_engine():
        pass
