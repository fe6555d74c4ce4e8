"""Credential plugins of a kubeconfig (``exec``), and what is done when an API server rejects a credential."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.errors import CalibanError
from caliban.platforms.kubernetes import exec_plugin
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.connection import Credential, Credentials
from caliban.platforms.kubernetes.exec_plugin import PluginLogins
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.threads import side_by_side
from tests.fakes import FakeClock
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    QUICK,
    platform_context,
)
from tests.platforms.kubernetes.logins import V1, authorization, connect
from tests.platforms.kubernetes.test_kubeconfig import content, credential, plugin, refusal, write
from tests.standins.faults import PAGE, Fault
from tests.standins.kubernetes import KubeApi


def printing(status: dict[str, Any], more: str = "") -> str:
    """Return a plugin that prints an ExecCredential."""
    output = json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status})
    return f"import os, sys\n{more}\nprint({output!r})"


def counting(calls: Path, program: str) -> str:
    return f"open({str(calls)!r}, 'a').write('x')\n{program}"


@pytest.mark.parametrize("expiry", [None, "2100-01-01T00:00:00Z"])
def test_a_plugin_is_run_once_for_all_requests_until_its_credential_expires(tmp_path: Path, expiry: str | None) -> None:
    program = counting(tmp_path / "calls", printing({"token": "x", "expirationTimestamp": expiry}))
    credentials = connect(tmp_path, plugin(program)).credentials
    assert [credentials.current().authorization for _ in range(3)] == ["Bearer x"] * 3
    assert (tmp_path / "calls").read_text() == "x"


def test_a_time_of_expiry_that_is_none_is_reported(tmp_path: Path) -> None:
    error = refusal(partial(connect, tmp_path, plugin(printing({"token": "x", "expirationTimestamp": "soon"}))))
    assert "wrote an expirationTimestamp that is no time" in str(error.cause)


@pytest.mark.parametrize("status", [{"token": "x", "clientKeyData": "k"}, {"token": "x", "clientCertificateData": "c"}])
def test_half_a_client_certificate_is_reported(tmp_path: Path, status: dict[str, Any]) -> None:
    error = refusal(partial(connect, tmp_path, plugin(printing(status))))
    assert "without its" in str(error.cause)


def test_the_client_certificate_of_a_plugin_is_renewed_when_it_expires() -> None:
    clock, made = FakeClock(), iter("ab")

    def fetch() -> Credential:
        name = next(made)
        return Credential(None, (name, name), clock.utc_now() + timedelta(hours=1))

    credentials = Credentials(fetch, clock)
    names = []
    for minutes in (0, 50, 56, 57):
        clock.seconds = minutes * 60
        names.append(str((credentials.current().certificate or "?")[0]))
    assert names == ["a", "a", "b", "b"]


def test_a_credential_that_lives_for_a_minute_is_not_fetched_for_each_request() -> None:
    clock, calls = FakeClock(), []

    def fetch() -> Credential:
        calls.append(1)
        return Credential("Bearer x", expires=clock.utc_now() + timedelta(minutes=1))

    credentials = Credentials(fetch, clock)
    for _ in range(6):
        credentials.current()
        clock.seconds += 10
    assert len(calls) == 2


def test_threads_and_contexts_with_the_same_plugin_run_it_once(tmp_path: Path) -> None:
    program = counting(tmp_path / "calls", "import time; time.sleep(0.1)\n" + printing({"token": "x"}))
    file = write(tmp_path / "config", content(*"abcdef", user=plugin(program)))
    logins = PluginLogins(os.environ, FakeClock(), lambda line: None)
    found = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path, logins=logins)
    connections = side_by_side({name: partial(found.connection, name) for name in "abcdef"})
    assert not [each for each in connections.values() if isinstance(each, CalibanError)]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_plugin_that_fails_is_not_run_again_for_each_context(tmp_path: Path) -> None:
    program = counting(tmp_path / "calls", "import sys; sys.exit('please log in')")
    file = write(tmp_path / "config", content(*"abc", user=plugin(program)))
    clock = FakeClock()
    found = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path, logins=PluginLogins(os.environ, clock, lambda line: None))
    for name in "abc":
        assert "please log in" in str(refusal(partial(found.connection, name)).cause)
    assert (tmp_path / "calls").read_text() == "x"
    clock.seconds += 31
    refusal(lambda: found.connection("a"))
    assert (tmp_path / "calls").read_text() == "xx"


def test_contexts_whose_plugins_differ_do_not_share_a_credential(tmp_path: Path) -> None:
    given = content("a", "b", user=plugin(printing({"token": "of-a"})))
    given["users"].append({"name": "v", "user": plugin(printing({"token": "of-b"}))})
    given["contexts"][1]["context"]["user"] = "v"
    file = write(tmp_path / "config", given)
    logins = PluginLogins(os.environ, FakeClock(), lambda line: None)
    found = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path, logins=logins)
    tokens = [found.connection(name).credentials.current().authorization for name in "ab"]
    assert tokens == ["Bearer of-a", "Bearer of-b"]


def test_a_plugin_runs_in_the_users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = "import json, os; print(json.dumps({**json.loads(%r), 'status': {'token': os.getcwd()}}))"
    directory = tmp_path / "kube"
    made = Kubeconfig(
        {"KUBECONFIG": str(write(directory / "config", content("lab", user=plugin(program % credential("x")))))},
        tmp_path,
    ).connection("lab")
    assert made.credentials.current().authorization == f"Bearer {tmp_path}"


@pytest.mark.parametrize("command", ["./bin/plugin", "bin/plugin"])
def test_the_path_of_a_plugin_is_relative_to_its_kubeconfig(tmp_path: Path, command: str) -> None:
    program = write(tmp_path / "bin" / "plugin", f"#!/bin/sh\necho '{credential('x')}'\n")
    program.chmod(0o755)
    assert authorization(tmp_path, {"exec": {"apiVersion": V1, "command": command}}) == "Bearer x"


def test_a_plugin_is_looked_up_on_the_path_of_the_user_not_on_its_own(tmp_path: Path) -> None:
    program = write(tmp_path / "bin" / "plugin", f"#!/bin/sh\necho '{credential('x')}'\n")
    program.chmod(0o755)
    user = {"exec": {"apiVersion": V1, "command": "plugin", "env": [{"name": "PATH", "value": "/nonexistent"}]}}
    file = write(tmp_path / "config", content("lab", user=user))
    environ = {"KUBECONFIG": str(file), "PATH": str(program.parent)}
    made = Kubeconfig(environ, tmp_path).connection("lab")
    assert made.credentials.current().authorization == "Bearer x"


@pytest.mark.parametrize("value", [{}, {"value": None}, {"value": ""}])
def test_a_variable_without_a_value_is_empty(tmp_path: Path, value: dict[str, Any]) -> None:
    user = plugin(printing({"token": "x"}, "os.environ['EMPTY'] == '' or sys.exit('not empty')"))
    user["exec"]["env"] = [{"name": "EMPTY", **value}]
    assert authorization(tmp_path, user) == "Bearer x"


def test_the_install_hint_of_a_plugin_is_the_hint_without_control_characters(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": V1, "command": "no-such-plugin", "installHint": "run:\n  brew install \x1b[1mx"}}
    error = refusal(partial(connect, tmp_path, user))
    assert str(error.hint).startswith("run:\n  brew install ")
    assert "\x1b" not in str(error.hint)


def test_a_plugin_gets_the_cluster_as_kubectl_gives_it(tmp_path: Path) -> None:
    write(tmp_path / "ca.pem", "certificate")
    cluster = """
      server: https://192.0.2.1:6443
      certificate-authority: ca.pem
      tls-server-name: api.lab
      proxy-url: http://127.0.0.1:3128
      insecure-skip-tls-verify: true
      extensions:
      - {name: other, extension: {a: b}}
      - name: client.authentication.k8s.io/exec
        extension: {audience: "0123", port: 443, enabled: true, share: 0.5, nothing: null, list: [1, x]}
    """
    given = yaml.safe_dump({**content("lab"), "clusters": [], "users": []})
    program = f"import os; open({str(tmp_path / 'info')!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n"
    user = plugin(program + printing({"token": "x"}))
    user["exec"]["provideClusterInfo"] = True
    text = given.replace("clusters: []", f"clusters:\n  - name: c\n    cluster: {cluster}")
    text = text.replace("users: []", "users: " + json.dumps([{"name": "u", "user": user}]))
    Kubeconfig({"KUBECONFIG": str(write(tmp_path / "config", text))}, tmp_path).connection("lab")
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://192.0.2.1:6443",
                "certificate-authority-data": "Y2VydGlmaWNhdGU=",
                "tls-server-name": "api.lab",
                "proxy-url": "http://127.0.0.1:3128",
                "insecure-skip-tls-verify": True,
                "config": {
                    "audience": "0123",
                    "port": 443,
                    "enabled": True,
                    "share": 0.5,
                    "nothing": None,
                    "list": [1, "x"],
                },
            },
        },
    }


def test_what_a_slow_plugin_writes_is_shown_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_plugin, "_REPORT_AFTER", 0.05)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = f"sys.stderr.write('open https://example.com/device and enter ABC\\n')\nopen({str(gate)!r}).read()"
    shown: list[str] = []

    def announce(line: str) -> None:
        shown.append(line)
        if "enter ABC" in line:
            gate.write_text("done")

    file = write(tmp_path / "config", content("lab", user=plugin(printing({"token": "x"}, program))))
    Kubeconfig({"KUBECONFIG": str(file)}, tmp_path, announce=announce).connection("lab")
    name = Path(sys.executable).name
    assert shown == [
        f"waiting for the credential plugin {name} ...",
        f"{name}: open https://example.com/device and enter ABC",
    ]


def test_a_plugin_that_needs_a_terminal_is_not_run_without_one(tmp_path: Path) -> None:
    user = plugin("raise SystemExit('was run')")
    user["exec"]["interactiveMode"] = "Always"
    error = refusal(partial(connect, tmp_path, user))
    assert "requires a terminal" in str(error.cause)


def test_contexts_that_are_only_searched_ask_for_no_login(
    cluster: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "has_terminal", lambda descriptor=0: True)
    log = tmp_path / "log"
    program = f"import json, os; open({str(log)!r}, 'a').write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user=plugin(program + printing({"token": "x"})))
    platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
    recorded = replace(DESTINATION, context="gone", cluster_uid="0", cluster_server="https://192.0.2.1 0")
    assert refusal(lambda: platform.connect(recorded)).id == "unknown-context"
    assert {json.loads(line)["spec"]["interactive"] for line in log.read_text().splitlines()} == {False}
    refusal(lambda: platform.connect(DESTINATION))


ASKING = """
import json, os, sys
spec = json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]
if spec["interactive"]:
    sys.stderr.write("Password: ")
    sys.stderr.flush()
    token = sys.stdin.readline().strip()
else:
    token = "not-asked"
status = {"token": token}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


CONNECTING = """
import os, sys
from pathlib import Path
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
print(Kubeconfig(os.environ, Path("/")).connection("lab").credentials.current().authorization)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "expected"),
    [("Always", "Bearer secret"), ("IfAvailable", "Bearer secret"), ("Never", "Bearer not-asked")],
)
def test_a_plugin_asks_on_the_terminal_if_it_may(tmp_path: Path, mode: str, expected: str) -> None:
    user = plugin(ASKING)
    user["exec"]["interactiveMode"] = mode
    file = write(tmp_path / "config", content("lab", user=user))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONNECTING],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(file)},
    )
    os.close(theirs)
    if mode != "Never":
        shown = b""
        while b"Password: " not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"secret\n")
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert out.decode().strip() == expected


def client(cluster: KubeApi, tmp_path: Path, program: str) -> Cluster:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user=plugin(program))
    connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path, FakeClock()).connection("lab")
    return Cluster(connection, "lab", platform_context(), QUICK)


def taking(tmp_path: Path, *tokens: str) -> str:
    """Return a plugin that prints another token each time, and the last one ever after."""
    (tmp_path / "tokens").write_text("\n".join(tokens))
    file = str(tmp_path / "tokens")
    return (
        f"import json; lines = open({file!r}).read().split()\n"
        f"open({file!r}, 'w').write('\\n'.join(lines[1:] or lines))\n"
        f"print(json.dumps({{**json.loads({credential('x')!r}), 'status': {{'token': lines[0]}}}}))"
    )


def test_a_credential_that_is_rejected_is_renewed_once_and_the_request_sent_again(
    cluster: KubeApi, tmp_path: Path
) -> None:
    made = client(cluster, tmp_path, taking(tmp_path, "old", cluster.access.token))
    made.check_namespace("default")
    made.check_namespace("default")
    assert len(cluster.requests) == 3


def test_the_output_of_a_pod_is_read_with_a_renewed_credential(cluster: KubeApi, tmp_path: Path) -> None:
    made = client(cluster, tmp_path, taking(tmp_path, "old", cluster.access.token))
    error = refusal(lambda: list(made.pod_log("default", "no-such-pod", {})))
    assert error.id == "kubernetes-not-found"


def test_a_job_is_not_sent_again_after_the_401_of_a_gateway_which_may_have_passed_it_on(
    cluster: KubeApi, tmp_path: Path
) -> None:
    made = client(cluster, tmp_path, taking(tmp_path, cluster.access.token, "other"))
    cluster.faults.add(Fault("jobs.create", "replace", status=401, body=PAGE))
    error = refusal(lambda: made.create_job("default", {"metadata": {"name": "x"}}))
    assert (error.id, len(cluster.requests)) == ("kubernetes-unreachable", 1)


def test_a_credential_that_stays_rejected_is_not_renewed_for_each_request(cluster: KubeApi, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    made = client(cluster, tmp_path, counting(calls, taking(tmp_path, "old", "older")))
    for _ in range(3):
        assert refusal(lambda: made.check_namespace("default")).id == "kubernetes-not-authenticated"
    assert (calls.read_text(), len(cluster.requests)) == ("xx", 4)


def test_threads_renew_a_rejected_credential_together(cluster: KubeApi, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    made = client(cluster, tmp_path, counting(calls, taking(tmp_path, "old", cluster.access.token)))
    together = threading.Barrier(4)

    def ask() -> None:
        together.wait()
        made.check_namespace("default")

    results = side_by_side(dict.fromkeys(range(4), ask))
    assert list(results.values()) == [None] * 4
    assert calls.read_text() == "xx"


def test_a_token_of_the_kubeconfig_that_is_rejected_is_not_sent_again(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": "wrong"})
    connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
    refusal(lambda: Cluster(connection, "lab", platform_context(), QUICK).check_namespace("default"))
    assert len(cluster.requests) == 1
