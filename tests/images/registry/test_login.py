"""Registries that require a login: a real one with passwords, and a fake one with bearer tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.images.docker.engine import Engine
from caliban.images.registry.api import AccessDeniedError, RegistryUnavailableError, find_digest
from caliban.images.registry.auth import Login
from caliban.images.registry.names import image_reference
from tests.images.helpers import RecordingReporter

from .pushing import failure, push
from .registries import (
    PASSWORD,
    USER,
    Answer,
    Request,
    TokenRules,
    basic,
    error,
    front,
    registry_with_password,
)

LOGIN = Login(USER, PASSWORD)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_with_password(tmp_path_factory.mktemp("registry")) as address:
        yield address


def pushed_twice(engine: Engine, image: str, address: str, login: Login | None) -> list[str]:
    """Push twice, and return what was reported; the second push only asks for the manifest."""
    reporter = RecordingReporter()
    push(engine, image, address, reporter, login=login)
    push(engine, image, address, reporter, login=login)
    return [*reporter.lines, *reporter.warnings]


def test_a_given_login_is_used(engine: Engine, guarded: str, image: str) -> None:
    said = pushed_twice(engine, image, guarded, LOGIN)
    assert said == [f"{image_reference(guarded, image)} already exists in the registry"]


def test_the_login_that_docker_stored_is_used(engine: Engine, guarded: str, image: str, docker_config: Path) -> None:
    entry = {"auth": basic(USER, PASSWORD).removeprefix("Basic ")}
    docker_config.write_text(json.dumps({"auths": {guarded: entry}}))
    assert pushed_twice(engine, image, guarded, None) == [
        f"{image_reference(guarded, image)} already exists in the registry"
    ]


def install_helper(docker_config: Path, monkeypatch: pytest.MonkeyPatch, host: str, script: str) -> None:
    """Install a credential helper of docker for a host."""
    helper = docker_config.parent / "docker-credential-planted"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker_config.parent}:{os.environ['PATH']}")
    docker_config.write_text(json.dumps({"credHelpers": {host: "planted"}}))


def test_the_login_of_a_credential_helper_is_used(
    engine: Engine, guarded: str, image: str, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"ServerURL": guarded, "Username": USER, "Secret": PASSWORD})
    install_helper(docker_config, monkeypatch, guarded, f"echo '{answer}'")
    assert pushed_twice(engine, image, guarded, None) == [
        f"{image_reference(guarded, image)} already exists in the registry"
    ]


@pytest.mark.parametrize("script", ["echo broken; exit 1", "exec rm -- /nowhere/at/all"])
def test_a_broken_credential_helper_is_ignored_with_a_warning(
    engine: Engine,
    registry: str,
    image: str,
    reporter: RecordingReporter,
    docker_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    install_helper(docker_config, monkeypatch, registry, script)
    assert push(engine, image, registry, reporter, login=None).by_tag == image_reference(registry, image)
    assert reporter.warnings[0].startswith(f"cannot read docker's stored login for {registry}: ")


def test_a_missing_credential_helper_causes_a_warning(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, docker_config: Path
) -> None:
    docker_config.write_text(json.dumps({"credsStore": "caliban-none"}))
    push(engine, image, registry, reporter, login=None)
    assert "docker-credential-caliban-none not installed" in reporter.warnings[0]


def test_an_empty_entry_of_the_docker_configuration_is_no_login(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, docker_config: Path
) -> None:
    docker_config.write_text(json.dumps({"auths": {registry: {}}}))
    push(engine, image, registry, reporter, login=None)
    assert reporter.warnings == []


def test_without_a_login_the_push_is_denied_with_a_hint(engine: Engine, guarded: str, image: str) -> None:
    refused = failure(engine, image, f"{guarded}/team")
    assert refused.id == "push-refused"
    assert refused.message == f"cannot push the image: no login for {guarded}"
    assert refused.cause == "unauthorized: authentication required"
    assert refused.hint == f"run: docker login {guarded}, as a user who may push to {guarded}/team"


def test_a_wrong_password_is_in_no_message(engine: Engine, guarded: str, image: str) -> None:
    refused = failure(engine, image, guarded, login=Login(USER, "another-secret"))
    assert refused.id == "push-refused"
    assert "another-secret" not in f"{refused.message} {refused.cause} {refused.hint}"


@pytest.fixture
def token_registry(registry: str) -> Iterator[TokenRules]:
    rules = TokenRules()
    with front(registry, rules) as server:
        rules.address = server.address
        yield rules


def test_a_bearer_token_is_requested_with_the_login(engine: Engine, token_registry: TokenRules, image: str) -> None:
    address = token_registry.address
    assert pushed_twice(engine, image, address, LOGIN) == [
        f"{image_reference(address, image)} already exists in the registry"
    ]
    first = token_registry.asked[0]
    assert (first.method, first.form) == (
        "GET",
        {"service": ["the registry"], "scope": [f"repository:{image[7:19]}:pull"]},
    )
    assert first.headers["Authorization"] == basic(USER, PASSWORD)


def test_an_identity_token_is_exchanged_for_a_bearer_token(
    engine: Engine, token_registry: TokenRules, image: str, docker_config: Path
) -> None:
    address = token_registry.address
    docker_config.write_text(json.dumps({"auths": {address: {"identitytoken": PASSWORD}}}))
    assert pushed_twice(engine, image, address, None) == [
        f"{image_reference(address, image)} already exists in the registry"
    ]
    first = token_registry.asked[0]
    assert (first.method, first.form) == (
        "POST",
        {
            "grant_type": ["refresh_token"],
            "refresh_token": [PASSWORD],
            "client_id": ["caliban"],
            "service": ["the registry"],
            "scope": [f"repository:{image[7:19]}:pull"],
        },
    )


@pytest.mark.parametrize("login", [None, Login(USER, "another-secret")])
def test_the_message_of_the_token_service_is_the_cause(
    engine: Engine, token_registry: TokenRules, image: str, login: Login | None
) -> None:
    refused = failure(engine, image, token_registry.address, login=login)
    sent = "None" if login is None else "Basic ***"
    assert (refused.id, refused.cause) == ("push-refused", f"unauthorized: not with {sent}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500), "its token service: 500 Internal Server Error"),
        (Answer(200, b"{}"), "its token service returned no token"),
        (Answer(200, b"[]"), "its token service returned no token"),
    ],
)
def test_a_broken_token_service_makes_the_registry_unavailable(image: str, answer: Answer, words: str) -> None:
    rules = TokenRules()
    with front("", lambda request: answer if request.path.startswith("/token") else rules(request)) as server:
        rules.address = server.address
        with pytest.raises(RegistryUnavailableError) as caught:
            find_digest(image_reference(server.address, image), image, LOGIN)
    assert str(caught.value) == words


def test_a_token_service_without_tls_gets_no_password(image: str) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://tokens.example.com/",service="x"'}
    with (
        front("", lambda _: Answer(401, b"", challenge)) as server,
        pytest.raises(RegistryUnavailableError, match="does not use HTTPS"),
    ):
        find_digest(image_reference(server.address, image), image, LOGIN)


def test_a_rejected_bearer_token_is_in_no_message(image: str) -> None:
    rules = TokenRules()

    def echo(request: Request) -> Answer | None:
        if request.headers.get("Authorization", "").startswith("Bearer"):
            return Answer(401, error("UNAUTHORIZED", f"not with {request.headers['Authorization']}"))
        return rules(request)

    with front("", echo) as server:
        rules.address = server.address
        with pytest.raises(AccessDeniedError) as caught:
            find_digest(image_reference(server.address, image), image, LOGIN)
    assert str(caught.value) == "unauthorized: not with Bearer ***"


def test_a_password_is_in_no_representation() -> None:
    assert repr(LOGIN) == "Login(username='totoro')"
