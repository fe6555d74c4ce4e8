"""The parts of the cluster that `make test-cluster` starts; the whole of it is tested by tests/real_cluster."""

from __future__ import annotations

import io
import json
import os
import signal
import ssl
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services import cluster_host, cluster_node
from services.cluster_images import PAUSE_IMAGE, TEST_IMAGE, write_images
from services.cluster_layout import COMPONENTS, Layout
from services.cluster_node import Node
from services.cluster_users import Users
from services.kubernetes import kubernetes
from services.shell import Failure

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for name in ("state", "logs"):
        (tmp_path / name).mkdir()
    return Layout(str(tmp_path / "state"), str(tmp_path / "logs"), "/plugins", 1, 2, 3, 4, 5, 6)


@pytest.fixture
def users(tmp_path: Path) -> Users:
    made = Users(tmp_path / "users", "https://127.0.0.1:1")
    made.make_authority()
    return made


def test_the_cluster_that_the_environment_names_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIBAN_TEST_CONTEXT", "mine")
    with kubernetes() as environment:
        assert environment == {}


def test_who_is_not_root_is_told_how_to_name_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIBAN_TEST_CONTEXT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match="only root may start a cluster") as told, kubernetes():
        pass
    assert "set CALIBAN_TEST_CONTEXT" in told.value.hint


def test_a_machine_without_go_is_told_so_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIBAN_TEST_CONTEXT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(Failure, match="go is not installed"), kubernetes():
        pass


def test_a_users_certificate_is_signed_by_the_clusters_authority(users: Users) -> None:
    kubeconfig = json.loads(users.make_user("totoro", "team").read_text())
    certificate = kubeconfig["users"][0]["user"]["client-certificate"]
    subprocess.run(["openssl", "verify", "-CAfile", users.ca, certificate], check=True, capture_output=True)
    subject = subprocess.check_output(["openssl", "x509", "-noout", "-subject", "-in", certificate], text=True)
    assert subject.strip() == "subject=O = team, CN = totoro"


def test_a_servers_certificate_has_its_names(users: Users) -> None:
    users.make_user("server", names=["DNS:localhost", "IP:127.0.0.1"])
    context = ssl.create_default_context(cafile=users.ca)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(users.directory / "server.crt", users.directory / "server.key")
    assert handshake(context, serving, "127.0.0.1") == ("DNS", "localhost")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> tuple[str, str]:
    """Let both talk without a network; gives the first name in the server's certificate."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = client.wrap_bio(to_client, to_server, server_hostname=name)
    called = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (calling, called):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = calling.getpeercert()
    assert certificate is not None
    found: tuple[str, str] = certificate["subjectAltName"][0]  # type: ignore[assignment]
    return found


def test_the_images_have_their_names_and_one_layer_with_busybox(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"a program")
    buffer = io.BytesIO()
    write_images(tmp_path / "busybox", buffer)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    manifest = json.loads(contents["manifest.json"])
    assert [image["RepoTags"] for image in manifest] == [[TEST_IMAGE], [PAUSE_IMAGE]]
    assert json.loads(contents[manifest[0]["Config"]])["config"]["Entrypoint"] == ["/bin/sh"]
    with tarfile.open(fileobj=io.BytesIO(contents["layer.tar"])) as layer:
        assert layer.getmember("bin/busybox").mode == 0o755
        assert layer.getmember("bin/sh").linkname == "busybox"


def test_a_layout_is_read_as_it_was_written(layout: Layout, tmp_path: Path) -> None:
    layout.save(tmp_path / "layout.json")
    assert Layout.load(tmp_path / "layout.json") == layout


def test_each_component_listens_on_the_loopback_or_the_bridge_only(layout: Layout) -> None:
    layout.write_configuration()
    commands = {name: " ".join(layout.command(name)) for name in COMPONENTS}
    assert "--bind-address 127.0.0.1 --secure-port 1 " in commands["kube-apiserver"]
    assert "--listen-client-urls http://127.0.0.1:2 " in commands["etcd"]
    assert "--bind-address 127.0.0.1 --secure-port 4 " in commands["kube-controller-manager"]
    assert commands["kube-scheduler"].endswith("--bind-address 127.0.0.1 --secure-port 5")
    kubelet = json.loads((Path(layout.state) / "kubelet.json").read_text())
    assert (kubelet["address"], kubelet["port"], kubelet["healthzPort"]) == ("198.51.100.1", 6, 0)


@pytest.fixture
def components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the components with two: one that keeps running, and one that ends at once."""
    commands = {
        "steady": lambda layout: ["sh", "-c", "echo started; exec sleep 60"],
        "broken": lambda layout: ["sh", "-c", "echo it failed; exit 1"],
    }
    monkeypatch.setattr("services.cluster_layout.COMPONENTS", commands)
    monkeypatch.setattr(cluster_node, "COMPONENTS", {"steady": commands["steady"]})


@pytest.mark.usefixtures("components")
def test_a_component_that_ends_is_reported_with_its_log(layout: Layout) -> None:
    node = Node(layout)
    node.start("broken")
    with pytest.raises(Failure, match=r"broken ended; the end of .*/logs/broken:\n *it failed"):
        node.wait_for("nothing", lambda: False, "broken")


@pytest.mark.usefixtures("components")
def test_a_component_that_takes_too_long_is_reported_with_its_log(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_node, "_START_SECONDS", 0.3)
    node = Node(layout)
    node.start("steady")
    try:
        with pytest.raises(Failure, match=r"no answer after 0.3 s; the end of .*/logs/steady:\n *started"):
            node.wait_for("answer", lambda: False, "steady")
    finally:
        end(node)


@pytest.mark.usefixtures("components")
def test_a_component_is_stopped_and_started_by_a_file(layout: Layout) -> None:
    node, log = Node(layout), Path(layout.logs) / "steady"
    stopped = Path(layout.state) / cluster_node.STOPPED / "steady"
    stopped.parent.mkdir()
    node.keep_up()
    wait_until(lambda: log.read_text() == "started\n")
    stopped.touch()
    wait_until(lambda: not running_after_a_step(node))
    stopped.unlink()
    node.keep_up()
    try:
        wait_until(lambda: log.read_text() == "started\nstarted\n")
    finally:
        end(node)


def running_after_a_step(node: Node) -> dict[str, int]:
    node.keep_up()
    return node.running


def end(node: Node) -> None:
    for pid in node.running.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_undone_where_nothing_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the host was changed"))
    cluster_host.undo(tmp_path)
