"""As whom requests are sent: credentials in the order of kubectl, credential plugins, and other users."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.platforms.kubernetes.connection import Credential
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobUpdate
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import (
    PEER_SPEC,
    QUICK,
    job_record,
    platform_context,
    record_of,
    submission,
)
from tests.platforms.kubernetes.logins import V1, authorization, connect
from tests.platforms.kubernetes.test_kubeconfig import TOKEN, refusal, write
from tests.standins.kubernetes import KubeApi


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "t", "tokenFile": "token"}, "Bearer from-file"),
        ({"token": "t", "tokenFile": "missing"}, "Bearer t"),
        ({"token": "t", "tokenFile": "empty"}, "Bearer t"),
        ({"token": "t", "exec": {"command": "no-such-plugin", "apiVersion": V1}}, "Bearer t"),
        ({"token": "t", "auth-provider": {"name": "oidc", "config": {"id-token": "other"}}}, "Bearer t"),
        ({"tokenFile": "token", "exec": {"command": "no-such-plugin", "apiVersion": V1}}, "Bearer from-file"),
        ({"username": "u", "exec": {"command": "no-such-plugin", "apiVersion": V1}}, "Basic dTo="),
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({"client-key-data": "eA=="}, None),
        ({}, None),
    ],
)
def test_the_credential_is_the_one_that_kubectl_chooses(
    tmp_path: Path, user: dict[str, Any], expected: str | None
) -> None:
    write(tmp_path / "token", "\n from-file \n")
    write(tmp_path / "empty", "\n")
    assert authorization(tmp_path, user) == expected


@pytest.mark.parametrize(
    "user",
    [
        {"tokenFile": "missing"},
        {"tokenFile": "empty"},
        {"token": TOKEN, "username": "u", "password": "p"},
        {"exec": {"command": "x", "apiVersion": V1}, "auth-provider": {"name": "oidc"}},
        {"exec": {"command": "x", "apiVersion": V1, "interactiveMode": "Sometimes"}},
        {"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v2"}},
        {"client-certificate-data": "eA=="},
    ],
)
def test_a_user_whose_credential_is_unclear_is_refused(tmp_path: Path, user: dict[str, Any]) -> None:
    write(tmp_path / "empty", "\n")
    assert refusal(partial(connect, tmp_path, user)).id == "kubeconfig-malformed"


def test_a_client_certificate_goes_with_a_token_and_keeps_a_plugin_from_running(tmp_path: Path) -> None:
    certificate = {"client-certificate-data": "eA==", "client-key-data": "eQ=="}
    assert connect(tmp_path, {**certificate, "token": "t"}).credentials.current() == Credential("Bearer t", ("x", "y"))
    unused = {"exec": {"command": "no-such-plugin", "apiVersion": V1}}
    assert connect(tmp_path, {**certificate, **unused}).credentials.current() == Credential(None, ("x", "y"))


def test_data_of_a_certificate_count_before_its_file_which_need_not_exist(tmp_path: Path) -> None:
    user = {
        "client-certificate": "gone",
        "client-certificate-data": "eA==",
        "client-key": "k",
        "client-key-data": "eQ==",
    }
    cluster = {"certificate-authority": "gone", "certificate-authority-data": "eg=="}
    made = connect(tmp_path, user, cluster=cluster)
    assert (made.authority, made.credentials.current().certificate) == ("z", ("x", "y"))


@pytest.mark.parametrize("comment", ["# Zürich\n".encode(), "# Zürich\n".encode("latin-1")])
def test_comments_of_a_certificate_may_be_in_any_encoding(tmp_path: Path, comment: bytes) -> None:
    pem = comment + b"-----BEGIN CERTIFICATE-----"
    (tmp_path / "ca.pem").write_bytes(pem)
    data = {"certificate-authority-data": base64.b64encode(pem).decode()}
    for cluster in (data, {"certificate-authority": "ca.pem"}):
        assert "-----BEGIN" in connect(tmp_path, {}, cluster=cluster).authority


def test_a_token_file_that_cannot_be_read_any_more_leaves_its_last_token(tmp_path: Path) -> None:
    file = write(tmp_path / "token", "first")
    credentials = connect(tmp_path, {"tokenFile": "token"}).credentials
    file.unlink()
    assert credentials.current().authorization == "Bearer first"


def test_files_of_a_client_certificate_that_are_written_again_are_read_again(tmp_path: Path) -> None:
    files = [write(tmp_path / name, "old") for name in ("c", "k")]
    credentials = connect(tmp_path, {"client-certificate": "c", "client-key": "k"}).credentials
    for file in files:
        file.write_text("new")
    assert credentials.current().certificate == ("new", "new")


def test_nothing_is_sent_to_a_server_without_tls_and_no_plugin_is_run_for_it(tmp_path: Path) -> None:
    user = {"as": "jane", "exec": {"command": "no-such-plugin", "apiVersion": V1}}
    made = connect(tmp_path, user, server="http://127.0.0.1:8001")
    assert made.credentials.current() == Credential()
    assert made.impersonation == (("Impersonate-User", "jane"),)


def test_requests_act_as_the_user_of_the_kubeconfig(tmp_path: Path) -> None:
    other = {"as": "jané", "as-uid": "42", "as-groups": ["a", "b c"], "as-user-extra": {"x.org/a%b": ["1", "2"]}}
    with KubeApi() as cluster:
        path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": cluster.access.token, **other})
        platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
        platform.submit(PEER_SPEC, submission(), may_send)
        name = "jané".encode().decode("latin-1")  # the bytes of UTF-8, as http.server reads headers
        assert set(map(str, cluster.access.impersonated)) == {
            str((name, "42", ["a", "b c"], {"x.org/a%b": ["1", "2"]})),
        }
        assert len(cluster.access.impersonated) == len(cluster.requests)


def test_a_user_that_may_not_be_impersonated_is_reported_with_the_words_of_the_cluster(tmp_path: Path) -> None:
    with KubeApi() as cluster:
        cluster.access.impersonators.clear()
        path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={"token": cluster.access.token, "as": "jane"})
        platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
        error = refusal(lambda: platform.submit(PEER_SPEC, submission(), may_send))
        assert (error.id, "cannot impersonate" in str(error.cause)) == ("kubernetes-permission-denied", True)


@pytest.mark.parametrize(
    "other",
    [
        {"as-groups": ["system:masters"]},
        {"as-uid": "1"},
        {"as-user-extra": {"a": ["b"]}},
        {"as": "", "as-groups": ["a"]},
        {"as": "jane\r\nImpersonate-Group: system:masters"},
        {"as": ["jane"]},
        {"as": "jane", "as-groups": "a"},
        {"as": "jane", "as-groups": [["a"]]},
        {"as": "jane", "as-user-extra": ["a"]},
        {"as": "jane", "as-user-extra": {"a": "b"}},
    ],
)
def test_a_request_is_not_sent_as_another_user_than_the_kubeconfig_says(tmp_path: Path, other: dict[str, Any]) -> None:
    error = refusal(partial(connect, tmp_path, {"token": TOKEN, **other}))
    assert error.id == "kubeconfig-malformed"


Change = Callable[[dict[str, Any]], None]


def _user(user: dict[str, Any]) -> Change:
    return lambda given: given["users"].append({"name": "bad", "user": user})


def _cluster(value: dict[str, Any]) -> Change:
    return lambda given: given["clusters"].append({"name": "bad", "cluster": value})


@pytest.mark.parametrize(
    "change",
    [
        _user({"exec": {"apiVersion": V1, "command": "no-such-plugin"}}),
        _user({"exec": {"apiVersion": V1, "command": sys.executable, "args": ["-c", "exit(1)"]}}),
        _user({"exec": "x"}),
        _user({"tokenFile": "/nonexistent"}),
        _user({"client-certificate-data": "%%%"}),
        _user({"auth-provider": {"name": "gcp"}}),
        _user({"as-groups": ["x"]}),
        _cluster({}),
        _cluster({"server": "https://127.0.0.1:1"}),
        _cluster({"server": "https://127.0.0.1:9", "certificate-authority": "/nonexistent"}),
        _cluster({"server": "https://127.0.0.1:9", "certificate-authority-data": "eA=="}),
        _cluster({"server": "https://127.0.0.1:9", "proxy-url": "gopher://127.0.0.1:70"}),
        _cluster({"server": "https://127.0.0.1:9", "proxy-url": "socks5://127.0.0.1:9"}),
        _cluster({"server": "https://127.0.0.1:9", "proxy-url": "http://127.0.0.1:9"}),
        lambda given: None,
    ],
)
def test_a_context_that_cannot_be_used_costs_only_its_own_jobs_their_state(
    cluster: KubeApi, tmp_path: Path, change: Change
) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab")
    submitted = record_of(
        KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).submit(PEER_SPEC, submission(), may_send)
    )
    given = yaml.safe_load(path.read_text())
    change(given)
    has = {group: any(each["name"] == "bad" for each in given[group]) for group in ("users", "clusters")}
    bad = {
        "user": "bad" if has["users"] or not any(has.values()) else "lab",
        "cluster": "bad" if has["clusters"] else "lab",
    }
    given["contexts"].append({"name": "bad", "context": bad})
    path.write_text(yaml.safe_dump(given))
    platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
    other = job_record({**submitted.details.raw, "context": "bad"}, id=8)
    found = platform.statuses([submitted, other])
    assert isinstance(found[submitted.id], JobUpdate)
    assert not isinstance(found[other.id], JobUpdate)


def test_a_malformed_kubeconfig_costs_the_jobs_of_its_clusters_their_state_without_an_exception(
    cluster: KubeApi, tmp_path: Path
) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab")
    platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
    submitted = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    path.write_text("contexts: [")
    found = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).statuses([submitted])
    assert not isinstance(found[submitted.id], JobUpdate)
