"""The contexts of kubeconfig files, and how to connect to their clusters."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.errors import CalibanError, UsageError
from caliban.platforms.kubernetes.errors import KubernetesUnreachableError
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig, KubeContext

TOKEN = "planted-token"
SERVER = "https://192.0.2.1:6443"


def content(
    *contexts: str,
    current: str | None = None,
    server: str | None = SERVER,
    user: Mapping[str, Any] | None = None,
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a kubeconfig with these contexts, all of one cluster and one user."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})} if server else {}}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else dict(user)}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
        **({"current-context": current} if current else {}),
    }


def write(path: Path, given: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(given if isinstance(given, str) else yaml.safe_dump(given))
    return path


def kubeconfig(tmp_path: Path, *contexts: str, **more: Any) -> Kubeconfig:
    return Kubeconfig({"KUBECONFIG": str(write(tmp_path / "config", content(*contexts, **more)))}, tmp_path)


def refusal(call: Any) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        call()
    assert TOKEN not in str(vars(caught.value))
    return caught.value


def test_contexts_are_listed_in_their_order(tmp_path: Path) -> None:
    given = content("b", "a", current="a")
    given["contexts"][0]["context"]["namespace"] = "lab"
    file = write(tmp_path / "config", given)
    assert Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts() == [
        KubeContext("b", "c", SERVER, "lab", is_current=False),
        KubeContext("a", "c", SERVER, "default", is_current=True),
    ]


def test_without_the_variable_the_file_in_the_home_directory_is_read(tmp_path: Path) -> None:
    write(tmp_path / ".kube" / "config", content("lab", current="lab"))
    for environ in ({}, {"KUBECONFIG": ""}):
        assert [each.name for each in Kubeconfig(environ, tmp_path).contexts()] == ["lab"]


def test_several_files_are_merged_and_the_first_definition_of_a_context_wins(tmp_path: Path) -> None:
    first = write(tmp_path / "first", content("a"))
    other = content("a", "b", current="b", server="https://192.0.2.2")
    other["clusters"][0]["name"] = other["contexts"][1]["context"]["cluster"] = "d"
    second = write(tmp_path / "second", other)
    merged = Kubeconfig({"KUBECONFIG": f"{first}:{tmp_path / 'none'}:{second}"}, tmp_path)
    assert [(each.name, each.server, each.is_current) for each in merged.contexts()] == [
        ("a", SERVER, False),
        ("b", "https://192.0.2.2", True),
    ]


def test_the_current_context_of_the_first_file_that_has_one_wins(tmp_path: Path) -> None:
    files = [write(tmp_path / name, content("a", "b", current=name)) for name in ("a", "b")]
    merged = Kubeconfig({"KUBECONFIG": ":".join(map(str, files))}, tmp_path)
    assert merged.context(None).name == "a"
    assert [each.name for each in merged.contexts() if each.is_current] == ["a"]


def test_a_relative_path_of_a_ca_is_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    file = write(tmp_path / "config", content("lab", cluster={"certificate-authority": "ca.pem"}))
    assert Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).connection("lab").authority == "certificate"


def test_a_context_is_found_by_name_or_is_the_current_one(tmp_path: Path) -> None:
    found = kubeconfig(tmp_path, "a", "b", current="b")
    assert (found.context("a").name, found.context(None).name) == ("a", "b")


def test_without_a_file_there_are_no_contexts(tmp_path: Path) -> None:
    none = Kubeconfig({}, tmp_path)
    assert (none.exists, none.contexts()) == (False, [])


def test_without_a_file_the_hint_has_both_ways_to_choose_a_cluster(tmp_path: Path) -> None:
    error = refusal(lambda: Kubeconfig({}, tmp_path).context(None))
    assert (error.id, error.message, error.cause, error.hint) == (
        "no-cluster",
        "no cluster is selected",
        f"file not found: {tmp_path}/.kube/config",
        "choose a context with --context, or a GKE cluster with --cluster_name",
    )


def test_without_a_current_context_the_hint_has_all_contexts(tmp_path: Path) -> None:
    error = refusal(lambda: kubeconfig(tmp_path, "a", "b").context(None))
    assert (error.id, error.cause) == ("no-cluster", f"{tmp_path}/config has no current context")
    assert "choose a context with --context (a, b), or" in str(error.hint)


def test_a_current_context_that_does_not_exist_is_named(tmp_path: Path) -> None:
    error = refusal(lambda: kubeconfig(tmp_path, "a", current="gone").context(None))
    assert (error.id, error.cause) == ("no-cluster", f'the current context "gone" of {tmp_path}/config does not exist')


@pytest.mark.parametrize(
    ("name", "hint"),
    [("kind-lap", "did you mean kind-lab?"), ("elsewhere", "the contexts are kind-lab, prod")],
)
def test_an_unknown_context_is_refused_with_a_suggestion_or_all_contexts(tmp_path: Path, name: str, hint: str) -> None:
    error = refusal(lambda: kubeconfig(tmp_path, "kind-lab", "prod").context(name))
    assert (error.id, error.message, error.hint) == (
        "unknown-context",
        f'{tmp_path}/config has no context "{name}"',
        hint,
    )


def test_a_context_without_a_file_is_refused_with_the_location(tmp_path: Path) -> None:
    error = refusal(lambda: Kubeconfig({}, tmp_path).context("lab"))
    assert error.message == f'unknown context "lab": {tmp_path}/.kube/config has no contexts'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"users:\n- name: u\n  user: {{token: {TOKEN}\n", "invalid YAML, line 4"),
        (f"\ttoken: {TOKEN}", "invalid YAML, line 1"),
        (f"{TOKEN}", None),
        (f"[{TOKEN}]", None),
        (f"contexts: {TOKEN}", None),
        (f"contexts: [{{token: {TOKEN}}}]\nusers: [{{token: {TOKEN}}}, {{token: {TOKEN}}}]", None),
    ],
)
def test_a_malformed_kubeconfig_is_refused_without_its_content(tmp_path: Path, text: str, cause: str | None) -> None:
    file = write(tmp_path / "config", text)
    error = refusal(Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts)
    assert (error.id, error.message) == ("kubeconfig-malformed", f"malformed kubeconfig: {file}")
    assert error.cause
    if cause:
        assert error.cause == cause


@pytest.mark.parametrize("text", ["", "\n \n", "# by hand\n", "---\n", "null", "{}", "apiVersion: v1\nkind: Config\n"])
def test_a_file_with_nothing_in_it_has_no_contexts_and_costs_the_others_nothing(tmp_path: Path, text: str) -> None:
    empty = write(tmp_path / "empty", text)
    assert Kubeconfig({"KUBECONFIG": str(empty)}, tmp_path).contexts() == []
    other = write(tmp_path / "other", content("lab", current="lab"))
    for files in ((empty, other), (other, empty)):
        merged = Kubeconfig({"KUBECONFIG": ":".join(map(str, files))}, tmp_path)
        assert merged.context(None).name == "lab"


def test_an_object_of_another_kind_is_no_kubeconfig(tmp_path: Path) -> None:
    for text in ("apiVersion: v1\nkind: Pod", "apiVersion: v2\nkind: Config"):
        file = write(tmp_path / "config", text)
        assert "of another kind" in str(refusal(Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts).cause)


def test_the_malformed_one_of_several_files_is_named(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", content("a")), write(tmp_path / "bad", "a: [")
    error = refusal(Kubeconfig({"KUBECONFIG": f"{good}:{bad}"}, tmp_path).contexts)
    assert str(error.cause).startswith(f"{bad}: invalid YAML, line ")


@pytest.mark.parametrize("group", ["contexts", "clusters", "users"])
def test_two_entries_of_one_name_in_a_file_are_refused(tmp_path: Path, group: str) -> None:
    given = content("lab")
    given[group] *= 2
    file = write(tmp_path / "config", yaml.safe_dump(given))
    error = refusal(Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts)
    assert error.cause == f"entry 2 of {group} has the name of another one"


def test_an_entry_of_a_name_comes_from_one_file_as_a_whole(tmp_path: Path) -> None:
    first = content("lab", user={"username": "x"})
    second = content("lab", user={"token": TOKEN, "as": "somebody"}, server="https://192.0.2.2")
    files = [write(tmp_path / name, each) for name, each in (("1", first), ("2", second))]
    made = Kubeconfig({"KUBECONFIG": ":".join(map(str, files))}, tmp_path).connection("lab")
    assert (made.server, made.impersonation) == (SERVER, ())
    assert str(made.credentials.current().authorization).startswith("Basic ")


def test_relative_paths_are_relative_to_the_file_of_each_entry(tmp_path: Path) -> None:
    cluster, user = content("lab", cluster={"certificate-authority": "ca.pem"}), content("lab", user={"tokenFile": "t"})
    del cluster["users"], user["clusters"]
    (write(tmp_path / "a" / "ca.pem", "certificate"), write(tmp_path / "b" / "t", "from-b"))
    files = [write(tmp_path / "a" / "k", cluster), write(tmp_path / "b" / "k", user)]
    made = Kubeconfig({"KUBECONFIG": ":".join(map(str, files))}, tmp_path).connection("lab")
    assert (made.authority, made.credentials.current().authorization) == ("certificate", "Bearer from-b")


def test_a_file_of_json_with_tabs_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "config", json.dumps(content("lab", current="lab"), indent="\t"))
    assert Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).context(None).name == "lab"


def test_the_first_document_of_a_file_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "config", yaml.safe_dump(content("lab")) + "---\ncurrent-context: lab\n")
    assert [each.is_current for each in Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts()] == [False]


@pytest.mark.parametrize("merged", ["*base", "[*base, {token: other}]"])
def test_merge_keys_of_yaml_are_followed(tmp_path: Path, merged: str) -> None:
    given = content("lab")
    del given["users"]
    text = f"x: &base {{token: {TOKEN}, as: me}}\nusers: [{{name: u, user: {{<<: {merged}, as: you}}}}]\n"
    file = write(tmp_path / "config", text + yaml.safe_dump(given))
    made = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).connection("lab")
    assert made.credentials.current().authorization == f"Bearer {TOKEN}"
    assert made.impersonation == (("Impersonate-User", "you"),)


def test_a_directory_counts_as_no_file(tmp_path: Path) -> None:
    assert Kubeconfig({"KUBECONFIG": str(tmp_path)}, tmp_path).contexts() == []


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_bytes(b"contexts: \xff")
    assert refusal(Kubeconfig({"KUBECONFIG": str(file)}, tmp_path).contexts).id == "kubeconfig-malformed"


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "env": [{"name": "T", "value": TOKEN}]}},
        {"auth-provider": {"name": "oidc", "config": {"client-secret": TOKEN}}},
        {"client-certificate": "/nonexistent/certificate", "client-key-data": TOKEN},
        {"tokenFile": "/nonexistent/token"},
    ],
)
def test_an_incomplete_user_is_refused_without_secrets(tmp_path: Path, user: dict[str, Any]) -> None:
    found = kubeconfig(tmp_path, "lab", user=user)
    error = refusal(lambda: found.connection("lab"))
    assert error.id in ("kubeconfig-malformed", "kubernetes-unreachable")


def test_the_token_and_the_server_are_those_of_the_context(tmp_path: Path) -> None:
    made = kubeconfig(tmp_path, "lab").connection("lab")
    assert (made.server, made.credentials.current().authorization) == (SERVER, f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    "server",
    ["http://192.0.2.1:8080", "http://example.com", "http://127.0.0.1.example.com", "ftp://127.0.0.1", "x", None],
)
def test_a_server_without_tls_is_refused(tmp_path: Path, server: str | None) -> None:
    found = kubeconfig(tmp_path, "lab", server=server)
    error = refusal(lambda: found.connection("lab"))
    assert isinstance(error, UsageError)
    assert (error.id, error.message, error.cause) == (
        "kubeconfig-insecure",
        "the server of the context lab is not an https URL",
        f"server: {server or 'none'}",
    )


@pytest.mark.parametrize("server", ["http://127.0.0.1:8001", "http://localhost:8001", "http://[::1]:8001"])
def test_a_proxy_on_this_machine_needs_no_tls(tmp_path: Path, server: str) -> None:
    assert kubeconfig(tmp_path, "lab", server=server).connection("lab").server == server


@pytest.mark.parametrize(("server", "proxy"), [(SERVER, "http://proxy:1"), ("https://127.0.0.1:6443", None)])
def test_the_proxy_of_the_environment_is_used_but_for_this_machine(
    tmp_path: Path, server: str, proxy: str | None
) -> None:
    file = write(tmp_path / "config", content("lab", server=server))
    environ = {"KUBECONFIG": str(file), "HTTPS_PROXY": "http://proxy:1"}
    assert Kubeconfig(environ, tmp_path).connection("lab").proxy == proxy


def plugin(program: str) -> dict[str, Any]:
    """Return a user whose credential plugin is a Python program."""
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": sys.executable, "args": ["-c", program]}}


def credential(token: str, expires: str = "2100-01-01T00:00:00Z") -> str:
    version = "client.authentication.k8s.io/v1"
    status = {"token": token, "expirationTimestamp": expires}
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def test_the_token_of_a_plugin_is_sent(tmp_path: Path) -> None:
    made = kubeconfig(tmp_path, "lab", user=plugin(f"print({credential('fresh')!r})")).connection("lab")
    assert made.credentials.current().authorization == "Bearer fresh"


def test_an_expired_token_of_a_plugin_is_refreshed(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = f"open({str(calls)!r}, 'a').write('x'); print({credential('fresh', '2020-01-01T00:00:00Z')!r})"
    made = kubeconfig(tmp_path, "lab", user=plugin(program)).connection("lab")
    for _ in range(2):
        made.credentials.current()
    assert calls.read_text() == "xxx"


def test_a_plugin_that_fails_to_refresh_is_reported(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = (
        f"import os, sys; os.path.exists({str(done)!r}) and sys.exit('the session is over'); "
        f"open({str(done)!r}, 'w'); print({credential('fresh', '2020-01-01T00:00:00Z')!r})"
    )
    made = kubeconfig(tmp_path, "lab", user=plugin(program)).connection("lab")
    for _ in range(2):
        error = refusal(made.credentials.current)
        assert (error.id, "the session is over" in str(error.cause)) == ("kubernetes-unreachable", True)


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (
            "import sys; sys.exit('please log in')",
            "the credential plugin python failed with exit code 1: please log in",
        ),
        ("print('no JSON')", "the credential plugin python wrote no JSON"),
        ("print('{}')", "the credential plugin python wrote no ExecCredential"),
    ],
)
def test_a_plugin_that_fails_is_reported_with_its_message(
    tmp_path: Path, program: str, cause: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = kubeconfig(tmp_path, "lab", user=plugin(program))
    error = refusal(lambda: found.connection("lab"))
    assert isinstance(error, KubernetesUnreachableError)
    assert (error.message, error.cause) == ("cannot get credentials for the cluster of the context lab", cause)
    assert (error.is_transient, error.outcome_unknown) == (False, False)
    assert "kubectl --context lab get jobs" in str(error.hint)
    assert capfd.readouterr().err == ""


def test_a_plugin_that_is_not_installed_is_reported_by_name(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    found = kubeconfig(tmp_path, "lab", user=user)
    error = refusal(lambda: found.connection("lab"))
    assert (error.id, "no-such-plugin" in str(error.cause)) == ("kubernetes-unreachable", True)


def test_a_plugin_is_not_run_by_a_shell(tmp_path: Path) -> None:
    made = tmp_path / "made"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": f"touch {shlex.quote(str(made))}"}}
    refusal(lambda: kubeconfig(tmp_path, "lab", user=user).connection("lab"))
    assert not made.exists()


@pytest.mark.parametrize("user", [None, plugin(f"print({credential('fresh', '2020-01-01T00:00:00Z')!r})")])
def test_the_kubeconfig_is_never_written(tmp_path: Path, user: dict[str, Any] | None) -> None:
    found = kubeconfig(tmp_path, "lab", user=user)
    before = (tmp_path / "config").stat()
    found.contexts()
    made = found.connection("lab")
    made.credentials.current()
    after = (tmp_path / "config").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config"]
