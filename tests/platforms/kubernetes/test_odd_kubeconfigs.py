"""Whatever is in a kubeconfig: reading it ends, nothing but one of our errors is raised, and no secret is shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.errors import CalibanError
from caliban.platforms.kubernetes import exec_plugin, kubeconfig_file
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.oidc import expiry_of
from caliban.records import Destination
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import PEER_SPEC, QUICK, platform_context, submission
from tests.platforms.kubernetes.test_kubeconfig import TOKEN, content, kubeconfig, plugin, refusal, write
from tests.sampling import examples
from tests.standins.kubernetes import KubeApi


def outcome_of(call: Callable[[], object]) -> str:
    """Return the id of the error that a call raises, or "done"; another exception fails the test."""
    try:
        call()
    except CalibanError as error:
        return error.id
    return "done"


VERSION = "client.authentication.k8s.io/v1"


def connect(tmp_path: Path, **more: Any) -> Any:
    return kubeconfig(tmp_path, "lab", **more).connection("lab")


def token_of(tmp_path: Path, user: dict[str, Any]) -> str | None:
    authorization: str | None = connect(tmp_path, user=user).credentials.current().authorization
    return authorization


@pytest.mark.parametrize("around", ["{}\n", "\n{}\r\n", "  {}\t", "{}\n\n"])
def test_white_space_around_a_token_is_not_sent(tmp_path: Path, around: str) -> None:
    given = around.format("secret-token")
    (tmp_path / "token").write_text(given)
    status = {"token": given, "expirationTimestamp": "2100-01-01T00:00:00Z"}
    output = json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})
    for user in ({"token": given}, {"tokenFile": "token"}, plugin(f"print({output!r})")):
        assert token_of(tmp_path, user) == "Bearer secret-token"


@pytest.mark.parametrize("token", [f"{TOKEN}\nX-Injected: 1", f"{TOKEN} {TOKEN}", f"{TOKEN}\x00", f"{TOKEN}é"])
def test_a_token_that_is_none_is_refused_without_being_shown(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    status = {"token": token}
    output = json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})
    for user in ({"token": token}, {"tokenFile": "token"}, plugin(f"print({output!r})")):
        error = refusal(partial(token_of, tmp_path, user))
        assert error.id in ("kubeconfig-malformed", "kubernetes-unreachable")
        assert "the token has characters that no token has" in str(error.cause) or "invalid YAML" in str(error.cause)


def test_a_token_of_two_lines_reaches_the_cluster_as_one(tmp_path: Path) -> None:
    with KubeApi() as cluster:
        path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": f"{cluster.access.token}\n"})
        platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
        platform.submit(PEER_SPEC, submission(), may_send)
        assert cluster.requests[0].headers["Authorization"] == f"Bearer {cluster.access.token}"


def test_a_token_file_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    found = connect(tmp_path, user={"tokenFile": "token"})
    (tmp_path / "token").write_text("second\n")
    assert found.credentials.current().authorization == "Bearer second"


def test_a_pipe_a_device_and_a_loop_of_links_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in ("/dev/zero", "/dev/stdin", str(tmp_path / "pipe"), str(tmp_path / "a")):
        assert refusal(Kubeconfig({"KUBECONFIG": path}, tmp_path).contexts).id == "kubeconfig-malformed"
    for key in ("certificate-authority",):
        for path in ("/dev/zero", str(tmp_path / "pipe")):
            assert refusal(partial(connect, tmp_path, cluster={key: path})).id == "kubeconfig-malformed"
    assert refusal(partial(connect, tmp_path, user={"tokenFile": str(tmp_path / "pipe")})).id == "kubeconfig-malformed"


@pytest.mark.parametrize("path", ["x\0y", "x" * 5000, "/" + "x/" * 3000])
def test_an_odd_path_is_refused_or_counts_as_no_file(tmp_path: Path, path: str) -> None:
    found = Kubeconfig({"KUBECONFIG": path}, tmp_path)
    assert outcome_of(found.contexts) in ("done", "kubeconfig-malformed")
    assert isinstance(found.exists, bool)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig_file, "MAX_SIZE", 1000)
    error = refusal(kubeconfig(tmp_path, *(f"context-{number}" for number in range(100))).contexts)
    assert error.id == "kubeconfig-malformed"


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 100)}]\n" for n in range(1, 30))
MERGE_BOMB = "a0: &a0 {x: y}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        MERGE_BOMB,
        "[" * 20_000,
        "{a: " * 10_000,
        "- " * 10_000,
        "&a [*a]",
        "a: *nothing",
        "!!python/object/apply:os.system ['exit 1']",
        "contexts: !!python/name:os.system",
        "contexts: [{name: lab, context: !!binary aGk=}]",
        "a: " + "9" * 100_000,
        "a: 2020-99-99",
        "? {a: b}\n: c",
        "? [a]\n: c",
        "a: 1:2:3:4:5:6",
        "%YAML 9.9\n---\na: b",
        "--- a\n--- b",
        "\ufeff",
        "\x00",
        "current-context: [a]\ncontexts: null\nclusters: ~\nusers:\n",
        "contexts: [null]",
        "contexts: [{name: null}]",
        "contexts: [{name: lab, context: lab}]",
        "contexts: {name: lab}",
    ],
)
def test_odd_yaml_is_refused_or_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    found = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path)
    for call in (found.contexts, lambda: found.context(None), lambda: found.connection("lab")):
        assert outcome_of(call) in (
            "done",
            "kubeconfig-malformed",
            "no-cluster",
            "unknown-context",
            "kubeconfig-insecure",
        )


def test_values_are_the_text_that_is_written(tmp_path: Path) -> None:
    text = "\n".join(
        [
            "current-context: 2024-01-01",
            "contexts: [{name: 2024-01-01, context: {cluster: 0x10, user: yes, namespace: null}}]",
            "clusters: [{name: 0x10, cluster: {server: 'https://192.0.2.1'}}]",
            "users: [{name: yes, user: {token: 12345678901234567890}}]",
        ]
    )
    write(tmp_path / "config", text)
    found = Kubeconfig({"KUBECONFIG": str(tmp_path / "config")}, tmp_path)
    context = found.context(None)
    assert (context.name, context.cluster, context.namespace) == ("2024-01-01", "0x10", "default")
    authorization = found.connection("2024-01-01").credentials.current().authorization
    assert authorization == "Bearer 12345678901234567890"


@pytest.mark.parametrize(
    "server",
    [
        "https://192.0.2.1@evil.example.com",
        "https://user:password@192.0.2.1",
        "https://192.0.2.1:80@evil.example.com/",
        "http://127.0.0.1:80@evil.example.com",
        "http://localhost@evil.example.com",
        "http://127.0.0.1\\@evil.example.com",
        "https://192.0.2.1\\@evil.example.com",
        "https://192.0.2.1/x?y",
        "https://192.0.2.1/#x",
        "https://192.0.2.1:99999",
        "https://192.0.2.1:-1",
        "https://192.0.2.1:",
        "https://",
        "https:///x",
        "https://192.0.2.1 .example.com",
        "https://192.0.2.1\n.example.com",
        "https://[::1",
        "https://[::1]x",
        "https://%31%32",
        "//192.0.2.1",
        "ftp://192.0.2.1",
    ],
)
def test_a_server_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, server: str) -> None:
    assert refusal(partial(connect, tmp_path, server=server)).id == "kubeconfig-insecure"


@pytest.mark.parametrize(
    "server",
    [
        "https://192.0.2.1",
        "https://192.0.2.1:6443",
        "https://[2001:db8::1]:6443",
        "https://api.example.com/k8s/clusters/c-m-x",
        "https://ABC.gr7.us-west-2.eks.amazonaws.com",
        "https://kubernetes.docker.internal:6443",
        "https://localhost:9",
        "http://[::1]:8001",
    ],
)
def test_a_plain_server_is_accepted(tmp_path: Path, server: str) -> None:
    assert connect(tmp_path, server=server).server == server


def test_a_plugin_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_plugin, "HELPER_SECONDS", 0.5)
    error = refusal(partial(connect, tmp_path, user=plugin("import time; time.sleep(600)")))
    assert (error.id, "did not end within" in str(error.cause)) == ("kubernetes-unreachable", True)


def test_a_plugin_that_is_waited_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_plugin, "_REPORT_AFTER", 0.01)
    monkeypatch.setattr(exec_plugin, "HELPER_SECONDS", 0.3)
    announced: list[str] = []
    file = write(tmp_path / "config", content("lab", user=plugin("import time; time.sleep(600)")))
    found = Kubeconfig({"KUBECONFIG": str(file)}, tmp_path, announce=announced.append)
    refusal(lambda: found.connection("lab"))
    assert announced == [f"waiting for the credential plugin {Path(sys.executable).name} ..."]


OUTPUT = json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": {"token": "x"}})


@pytest.mark.parametrize(
    "program",
    [
        f"import sys; sys.stdin.read(); print({OUTPUT!r})",
        f"import subprocess, sys; print({OUTPUT!r}); sys.stdout.flush(); subprocess.Popen(['sleep', '600'])",
        f"import os; os.isatty(0) and exit(1); print({OUTPUT!r})",
    ],
)
def test_a_plugin_gets_no_input_and_leaves_nothing_behind(tmp_path: Path, program: str) -> None:
    assert token_of(tmp_path, plugin(program)) == "Bearer x"


@pytest.mark.parametrize(
    "program",
    [
        "print('x' * 3_000_000)",
        "import os\nwhile True: os.write(2, b'x' * 65536)",
        "print('[' * 100_000)",
        "print('{}')",
        "print('null')",
        f"import json; print(json.dumps({{**json.loads({OUTPUT!r}), 'status': []}}))",
        f"import json; print(json.dumps({{**json.loads({OUTPUT!r}), 'status': {{'token': 5}}}}))",
        f"import json; print(json.dumps({{**json.loads({OUTPUT!r}), 'status': {{'clientCertificateData': 'x'}}}}))",
        f"import json; print(json.dumps({{**json.loads({OUTPUT!r}), 'apiVersion': 'other'}}))",
        "import os; os.write(1, bytes(range(256)))",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    ],
)
def test_an_odd_plugin_is_reported_in_few_words(tmp_path: Path, program: str) -> None:
    error = refusal(partial(connect, tmp_path, user=plugin(program)))
    assert error.id == "kubernetes-unreachable"
    assert len(str(error.cause)) < 5000


def test_what_a_failed_plugin_repeats_of_its_environment_is_not_shown(tmp_path: Path) -> None:
    user = plugin("import os, sys; sys.exit(os.environ['SECRET'])")
    user["exec"]["env"] = [{"name": "SECRET", "value": TOKEN}]
    assert "***" in str(refusal(partial(connect, tmp_path, user=user)).cause)


def test_a_certificate_that_is_none_is_an_error_of_the_kubeconfig(tmp_path: Path) -> None:
    for cluster, user in (
        ({"certificate-authority-data": "eA=="}, {"token": "x"}),
        ({"certificate-authority-data": ""}, {"client-certificate-data": "eA==", "client-key-data": "eA=="}),
    ):
        connection = connect(tmp_path, cluster=cluster, user=user)
        made = Cluster(connection, "cluster", platform_context(), QUICK)
        with pytest.raises(CalibanError) as caught:
            made.check_namespace("default")
        assert caught.value.id == "kubeconfig-malformed"


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "a.e30.c", "a.eyJleHAiOiJ4In0.c", "a." + "W" * 9999 + ".c", None, 5]
)
def test_an_odd_id_token_has_no_expiry(token: object) -> None:
    assert expiry_of(token) is None


@pytest.mark.parametrize(
    "config",
    [
        {"idp-issuer-url": "http://192.0.2.1"},
        {"idp-issuer-url": "https://192.0.2.1@127.0.0.1:1"},
        {"idp-issuer-url": "https://127.0.0.1:1"},
        {"idp-issuer-url": 5},
        {"client-id": None},
        {"refresh-token": ""},
    ],
)
def test_an_odd_oidc_issuer_is_refused_without_secrets(tmp_path: Path, config: dict[str, Any]) -> None:
    given = {"idp-issuer-url": "https://127.0.0.1:1", "client-id": "x", "refresh-token": TOKEN, "client-secret": TOKEN}
    user = {"auth-provider": {"name": "oidc", "config": {**given, **config}}}
    assert refusal(partial(connect, tmp_path, user=user)).id in ("kubeconfig-malformed", "kubernetes-unreachable")


NAMES = st.sampled_from(["lab", "c", "u", "", "x" * 300, "a\nb", "\x1b[2J"])
SCALARS = st.one_of(
    NAMES,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            "https://127.0.0.1:1",
            "http://127.0.0.1:1",
            "https://a@b",
            "true",
            "/dev/zero",
            "/nonexistent",
            ".",
            "oidc",
            "gcp",
        ]
    ),
    st.text(max_size=8),
)
KEYS = st.sampled_from(
    [
        *("name", "cluster", "context", "user", "server", "namespace", "token", "tokenFile", "exec", "command", "args"),
        *(
            "apiVersion",
            "env",
            "value",
            "auth-provider",
            "config",
            "id-token",
            "idp-issuer-url",
            "client-id",
            "proxy-url",
        ),
        *("refresh-token", "certificate-authority", "certificate-authority-data", "client-certificate", "client-key"),
        *("client-certificate-data", "client-key-data", "username", "password", "extensions", "provideClusterInfo"),
        *("as", "as-uid", "as-groups", "as-user-extra", "tls-server-name", "interactiveMode", "installHint", "<<"),
    ]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def entry(key: str) -> st.SearchStrategy[Any]:
    inner = st.dictionaries(KEYS, VALUES, max_size=6) | VALUES
    named = {"contexts": "lab", "clusters": "c", "users": "u"}[f"{key}s"]
    return st.fixed_dictionaries({"name": st.just(named) | NAMES, key: inner}) | VALUES


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "current-context": SCALARS,
        "contexts": st.lists(entry("context"), max_size=2)
        | st.just([{"name": "lab", "context": {"cluster": "c", "user": "u"}}]),
        "clusters": st.lists(entry("cluster"), max_size=2)
        | st.just([{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]),
        "users": st.lists(entry("user"), max_size=2) | VALUES,
    },
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(config=CONFIGS)
def test_any_kubeconfig_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    try:
        text = yaml.safe_dump(config)
    except (yaml.YAMLError, UnicodeError):
        return
    file = directory / "config"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = Kubeconfig({"KUBECONFIG": str(file)}, directory)
    platform = KubeconfigPlatform(platform_context(kubeconfig=file), QUICK)
    calls: list[Callable[[], object]] = [
        found.contexts,
        lambda: found.context(None),
        lambda: found.connection("lab"),
        lambda: found.server_identity("lab"),
        lambda: platform.connect(_destination()),
    ]
    for call in calls:
        assert outcome_of(call)


def _destination() -> Destination:
    return KubeconfigPlatform.destination_type.from_json({"context": "lab", "namespace": "default"})
