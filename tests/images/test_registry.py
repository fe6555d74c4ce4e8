"""Real pushes by a real engine into a real registry, with what a test needs to see or break standing before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.engine import Engine
from caliban.images.registry import Login, is_google_registry, push, reference, repository
from tests.docker_engine import SESSION_LABEL, remove_descendants

from .helpers import RecordingReporter
from .registries import (
    PASSWORD,
    USER,
    Answer,
    HungUpError,
    Request,
    TokenRules,
    basic,
    build_tiny,
    digest,
    engine_that_answers_a_push,
    error,
    front,
    manifest_of,
    registry_with_password,
)

LOGIN = Login(USER, PASSWORD)


@pytest.fixture(scope="session")
def registry() -> str:
    address = os.environ.get("CALIBAN_TEST_REGISTRY")
    if not address:
        pytest.fail("CALIBAN_TEST_REGISTRY is not set: run `make test`, which brings a registry up")
    return address


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's own configuration: empty, and not that of whoever runs the tests."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


@pytest.fixture(scope="module")
def build(engine: Engine) -> Iterator[Callable[[], str]]:
    """Build an image that no registry has; it has no name."""
    token = uuid.uuid4().hex
    yield lambda: build_tiny(engine.client, uuid.uuid4().hex, token)
    remove_descendants(engine.client, f"{SESSION_LABEL}={token}")


@pytest.fixture
def image(build: Callable[[], str]) -> str:
    return build()


def names(engine: Engine, image: str) -> list[str]:
    attributes = engine.client.images.get(image).attrs
    return [*attributes["RepoTags"], *attributes["RepoDigests"]]


def failure(engine: Engine, image: str, repository: str, *, login: Login | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        push(engine, image, repository, RecordingReporter(), login=login)
    return caught.value


def is_manifest(request: Request, method: str) -> bool:
    return request.method == method and "/manifests/" in request.path


def test_images_go_to_the_projects_registry_by_default() -> None:
    assert repository(None, "totoro-project") == "gcr.io/totoro-project"


def test_the_colon_of_a_domain_scoped_project_becomes_a_slash() -> None:
    assert repository(None, "example.com:proj") == "gcr.io/example.com/proj"


def test_a_configured_registry_replaces_the_default_whole() -> None:
    name = "europe-west4-docker.pkg.dev/totoro-project/images"
    assert repository(name, "other-project") == name


@pytest.mark.parametrize("project", ["", "Totoro", "a b", "a:b:c", "x/"])
def test_a_project_that_cannot_be_one_is_told_as_such(project: str) -> None:
    with pytest.raises(ImageError, match="registry of project") as caught:
        repository(None, project)
    assert caught.value.id == "registry-name-malformed"


def test_a_malformed_registry_is_told_with_what_to_write() -> None:
    with pytest.raises(ImageError) as caught:
        repository("https://totoro:planted-secret@registry.example.com", "p")
    assert caught.value.id == "registry-name-malformed"
    assert caught.value.message == "images cannot be pushed to 'https://***@registry.example.com'"
    assert "registry in .calibanconfig.json" in (caught.value.hint or "")


def test_an_image_is_named_by_the_first_twelve_digits_of_its_id() -> None:
    assert reference("gcr.io/p", "sha256:0123456789abcdef" + "0" * 48) == "gcr.io/p/0123456789ab:latest"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gcr.io/p", True),
        ("eu.gcr.io/p", True),
        ("us-docker.pkg.dev/p/r", True),
        ("northamerica-northeast1-docker.pkg.dev/p/r", True),
        ("registry.example.com/gcr.io/p", False),
        ("gcr.io.example.com/p", False),
        ("notgcr.io/p", False),
        ("us-docker.pkg.dev.example.com/p/r", False),
        ("localhost:5000", False),
    ],
)
def test_google_registries_are_told_from_others_by_their_host(name: str, expected: bool) -> None:
    assert is_google_registry(name) is expected


def test_the_registry_has_exactly_the_image_that_was_pushed(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = push(engine, image, f"{registry}/team", reporter, login=None)
    assert name == f"{registry}/team/{image[7:19]}:latest"
    assert json.loads(manifest_of(name))["config"]["digest"] == image


def test_an_image_may_be_given_by_its_name(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    engine.client.images.get(image).tag("caliban-test-own", tag="1")
    try:
        assert push(engine, "caliban-test-own:1", registry, reporter, login=None) == reference(registry, image)
        assert names(engine, image) == ["caliban-test-own:1"]
    finally:
        engine.client.images.remove("caliban-test-own:1")


def test_an_image_without_a_name_stays_in_the_engine_without_one(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, registry, reporter, login=None)
    assert names(engine, image) == []


def test_a_name_that_was_there_before_stays(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = reference(registry, image)
    engine.client.images.get(image).tag(name.rpartition(":")[0], tag="latest")
    try:
        push(engine, image, registry, reporter, login=None)
        assert name in names(engine, image)
    finally:
        engine.client.images.remove(name)


def test_nothing_else_is_left_in_the_engine(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, registry, reporter, login=None)
    assert engine.client.images.list("caliban-being-pushed") == []


def test_the_second_push_of_an_image_sends_nothing_and_says_so(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    with front(registry) as seen:
        name = push(engine, image, seen.address, RecordingReporter(), login=None)
        seen.requests.clear()
        assert push(engine, image, seen.address, reporter, login=None) == name
        assert seen.lines == [f"GET /v2/{image[7:19]}/manifests/latest"]
    assert (reporter.said, reporter.titles) == ([f"{name} is in the registry already"], [])


def test_the_registry_is_asked_for_manifests_of_docker_and_of_the_oci(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    with front(registry) as seen:
        push(engine, image, seen.address, reporter, login=None)
        assert seen.requests[0].headers["Accept"].split(", ") == [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.index.v1+json",
        ]


def test_another_image_under_the_name_is_replaced(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    first, second = build(), build()
    other = manifest_of(push(engine, second, registry, reporter, login=None))

    def other_manifest(request: Request) -> Answer | None:
        return Answer(200, other) if is_manifest(request, "GET") else None

    with front(registry, other_manifest) as confused:
        name = push(engine, first, confused.address, reporter, login=None)
    assert json.loads(manifest_of(name, registry))["config"]["digest"] == first


def test_an_engine_that_names_images_by_their_manifest_finds_them_too(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    from caliban.images.registry_api import has_image

    name = push(engine, image, registry, reporter, login=None)
    assert has_image(name, digest(manifest_of(name)), None)


def test_progress_counts_every_byte_of_the_layers(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, registry, reporter, login=None)
    size = engine.client.images.get(image).attrs["Size"]
    assert (reporter.titles, reporter.done) == ([("push", size, "B")], [size])
    assert any(note.endswith(": Pushed") for note in reporter.notes)


def test_layers_that_the_registry_has_are_counted_as_well(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, f"{registry}/first", RecordingReporter(), login=None)
    push(engine, image, f"{registry}/first", reporter, login=None)
    with front(registry, lambda request: Answer(404) if is_manifest(request, "GET") else None) as forgetful:
        push(engine, image, f"{forgetful.address}/first", reporter, login=None)
    assert any(note.endswith(": Layer already exists") for note in reporter.notes)
    assert reporter.done == [engine.client.images.get(image).attrs["Size"]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500), "500 Internal Server Error"),
        (Answer(403, error("DENIED", "no reading")), "denied: no reading"),
        (Answer(200, b"<html>"), "Expecting value: line 1 column 1 (char 0)"),
        (Answer(307, b"", {"Location": "http://localhost:1/"}), "307 Temporary Redirect"),
    ],
)
def test_a_question_that_gets_no_answer_is_no_reason_not_to_push(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, answer: Answer, words: str
) -> None:
    with front(registry, lambda request: answer if is_manifest(request, "GET") else None) as puzzling:
        name = push(engine, image, puzzling.address, reporter, login=None)
        host = puzzling.address
    assert json.loads(manifest_of(name, registry))["config"]["digest"] == image
    assert reporter.said == [f"whether {host} has the image is not known, so it is pushed ({words})"]


def test_a_proxy_of_the_environment_is_not_asked_for_the_loopback(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = push(engine, image, registry, RecordingReporter(), login=None)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    push(engine, image, registry, reporter, login=None)
    assert reporter.said == [f"{name} is in the registry already"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_with_password(tmp_path_factory.mktemp("registry")) as address:
        yield address


def pushed_twice(engine: Engine, image: str, address: str, login: Login | None) -> list[str]:
    """Push twice, and give what was said: the second time the registry has to understand the question."""
    reporter = RecordingReporter()
    push(engine, image, address, reporter, login=login)
    push(engine, image, address, reporter, login=login)
    return [*reporter.said, *reporter.warned]


def test_a_login_that_is_handed_in_is_used(engine: Engine, guarded: str, image: str) -> None:
    said = pushed_twice(engine, image, guarded, LOGIN)
    assert said == [f"{reference(guarded, image)} is in the registry already"]


def test_the_login_that_docker_stored_is_used(engine: Engine, guarded: str, image: str, docker_config: Path) -> None:
    entry = {"auth": basic(USER, PASSWORD).removeprefix("Basic ")}
    docker_config.write_text(json.dumps({"auths": {guarded: entry}}))
    assert pushed_twice(engine, image, guarded, None) == [f"{reference(guarded, image)} is in the registry already"]


def install_helper(docker_config: Path, monkeypatch: pytest.MonkeyPatch, host: str, script: str) -> None:
    """Make a credential helper of docker's for a host."""
    helper = docker_config.parent / "docker-credential-planted"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker_config.parent}:{os.environ['PATH']}")
    docker_config.write_text(json.dumps({"credHelpers": {host: "planted"}}))


def test_a_login_that_dockers_credential_helper_keeps_is_used(
    engine: Engine, guarded: str, image: str, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"ServerURL": guarded, "Username": USER, "Secret": PASSWORD})
    install_helper(docker_config, monkeypatch, guarded, f"echo '{answer}'")
    assert pushed_twice(engine, image, guarded, None) == [f"{reference(guarded, image)} is in the registry already"]


@pytest.mark.parametrize("script", ["echo broken; exit 1", "exec rm -- /nowhere/at/all"])
def test_a_credential_helper_that_does_not_work_is_warned_about_and_passed_over(
    engine: Engine,
    registry: str,
    image: str,
    reporter: RecordingReporter,
    docker_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    install_helper(docker_config, monkeypatch, registry, script)
    assert push(engine, image, registry, reporter, login=None) == reference(registry, image)
    assert reporter.warned[0].startswith(f"docker's stored login for {registry} cannot be read: ")


def test_a_credential_helper_that_is_not_installed_is_warned_about(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, docker_config: Path
) -> None:
    docker_config.write_text(json.dumps({"credsStore": "caliban-none"}))
    push(engine, image, registry, reporter, login=None)
    assert "docker-credential-caliban-none not installed" in reporter.warned[0]


def test_an_entry_of_dockers_configuration_that_holds_no_login_is_none(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, docker_config: Path
) -> None:
    docker_config.write_text(json.dumps({"auths": {registry: {}}}))
    push(engine, image, registry, reporter, login=None)
    assert reporter.warned == []


def test_a_registry_that_wants_a_login_refuses_without_one(engine: Engine, guarded: str, image: str) -> None:
    refused = failure(engine, image, f"{guarded}/team")
    assert refused.id == "push-refused"
    assert refused.message == f"the image was not pushed: {guarded} refused {reference(f'{guarded}/team', image)}"
    assert refused.cause == "unauthorized: authentication required"
    assert refused.hint == f"log in with `docker login {guarded}`, as a user who may push to {guarded}/team"


def test_a_wrong_password_is_told_without_it(engine: Engine, guarded: str, image: str) -> None:
    refused = failure(engine, image, guarded, login=Login(USER, "another-secret"))
    assert refused.id == "push-refused"
    assert "another-secret" not in f"{refused.message} {refused.cause} {refused.hint}"


def test_a_push_that_is_refused_leaves_no_name_behind(engine: Engine, registry: str, image: str) -> None:
    def read_only(request: Request) -> Answer | None:
        return None if request.method in ("GET", "HEAD") else Answer(403, error("DENIED", "you may not write here"))

    with front(registry, read_only) as strict:
        refused = failure(engine, image, strict.address)
    assert (refused.id, refused.cause) == ("push-refused", "denied: you may not write here")
    assert names(engine, image) == []


@pytest.fixture
def token_registry(registry: str) -> Iterator[TokenRules]:
    rules = TokenRules()
    with front(registry, rules) as server:
        rules.address = server.address
        yield rules


def test_a_bearer_token_is_asked_for_with_the_login(engine: Engine, token_registry: TokenRules, image: str) -> None:
    address = token_registry.address
    assert pushed_twice(engine, image, address, LOGIN) == [f"{reference(address, image)} is in the registry already"]
    first = token_registry.asked[0]
    assert (first.method, first.form) == (
        "GET",
        {"service": ["the registry"], "scope": [f"repository:{image[7:19]}:pull,push"]},
    )
    assert first.headers["Authorization"] == basic(USER, PASSWORD)


def test_an_identity_token_is_exchanged_for_a_bearer_token(
    engine: Engine, token_registry: TokenRules, image: str, docker_config: Path
) -> None:
    address = token_registry.address
    docker_config.write_text(json.dumps({"auths": {address: {"identitytoken": PASSWORD}}}))
    assert pushed_twice(engine, image, address, None) == [f"{reference(address, image)} is in the registry already"]
    first = token_registry.asked[0]
    assert (first.method, first.form) == (
        "POST",
        {
            "grant_type": ["refresh_token"],
            "refresh_token": [PASSWORD],
            "client_id": ["caliban"],
            "service": ["the registry"],
            "scope": [f"repository:{image[7:19]}:pull,push"],
        },
    )


@pytest.mark.parametrize("login", [None, Login(USER, "another-secret")])
def test_a_token_service_that_refuses_is_told_in_its_own_words(
    engine: Engine, token_registry: TokenRules, image: str, login: Login | None
) -> None:
    refused = failure(engine, image, token_registry.address, login=login)
    sent = "None" if login is None else "Basic ***"
    assert (refused.id, refused.cause) == ("push-refused", f"unauthorized: not with {sent}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500), "its token service: 500 Internal Server Error"),
        (Answer(200, b"{}"), "its token service gave no token"),
        (Answer(200, b"[]"), "its token service gave no token"),
    ],
)
def test_a_token_service_that_does_not_work_leaves_the_question_open(image: str, answer: Answer, words: str) -> None:
    from caliban.images.registry_api import NoAnswerError, has_image

    rules = TokenRules()
    with front("", lambda request: answer if request.path.startswith("/token") else rules(request)) as server:
        rules.address = server.address
        with pytest.raises(NoAnswerError) as caught:
            has_image(reference(server.address, image), image, LOGIN)
    assert str(caught.value) == words


def test_a_token_service_without_tls_gets_no_password(image: str) -> None:
    from caliban.images.registry_api import NoAnswerError, has_image

    challenge = {"WWW-Authenticate": 'Bearer realm="http://tokens.example.com/",service="x"'}
    with (
        front("", lambda _: Answer(401, b"", challenge)) as server,
        pytest.raises(NoAnswerError, match="not reached over https"),
    ):
        has_image(reference(server.address, image), image, LOGIN)


def test_a_bearer_token_that_is_not_taken_is_in_no_message(image: str) -> None:
    from caliban.images.registry_api import RegistryRefusedError, has_image

    rules = TokenRules()

    def echo(request: Request) -> Answer | None:
        if request.headers.get("Authorization", "").startswith("Bearer"):
            return Answer(401, error("UNAUTHORIZED", f"not with {request.headers['Authorization']}"))
        return rules(request)

    with front("", echo) as server:
        rules.address = server.address
        with pytest.raises(RegistryRefusedError) as caught:
            has_image(reference(server.address, image), image, LOGIN)
    assert str(caught.value) == "unauthorized: not with Bearer ***"


def test_a_registry_where_nothing_listens_is_told_in_the_engines_words(engine: Engine, image: str) -> None:
    failed = failure(engine, image, "localhost:1")
    assert (failed.id, failed.message) == (
        "push-failed",
        "the image was not pushed: the connection to localhost:1 failed",
    )
    assert "connection refused" in (failed.cause or "")


def test_a_registry_that_nobody_knows_is_told_in_the_engines_words(
    engine: Engine, image: str, reporter: RecordingReporter
) -> None:
    with pytest.raises(ImageError) as caught:
        push(engine, image, "registry.invalid/team", reporter, login=None)
    assert caught.value.id == "push-failed"
    assert "registry.invalid" in (caught.value.cause or "")
    assert reporter.said[0].startswith("whether registry.invalid has the image is not known, so it is pushed (")


def test_a_name_that_cannot_be_taken_away_is_warned_about(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = reference(registry, image)

    def take_it_first(request: Request) -> Answer | None:
        if is_manifest(request, "PUT"):
            engine.client.images.get(image).tag("caliban-test-own", tag="2")
            engine.client.images.remove(name.replace(registry, early.address))
        return None

    try:
        with front(registry, take_it_first) as early:
            pushed = push(engine, image, early.address, reporter, login=None)
        assert len(reporter.warned) == 1
        assert reporter.warned[0].startswith(f"the name {pushed} stays in the Docker Engine: ")
    finally:
        engine.client.images.remove(image, force=True)


def test_a_registry_that_goes_away_in_the_middle_is_told_and_leaves_no_name_behind(
    engine: Engine, registry: str, image: str
) -> None:
    def hang_up(request: Request) -> Answer | None:
        if is_manifest(request, "PUT"):
            raise HungUpError
        return None

    with front(registry, hang_up) as dying:
        failed = failure(engine, image, dying.address)
    assert failed.id == "push-failed"
    assert "EOF" in (failed.cause or "")
    assert names(engine, image) == []


@pytest.mark.parametrize(
    ("status", "id", "words"),
    [
        (507, "registry-full", "has no room for"),
        (500, "push-failed", "failed while it took"),
    ],
)
def test_a_registry_that_fails_is_told_with_what_may_be_wrong_there(
    engine: Engine, registry: str, image: str, status: int, id: str, words: str
) -> None:
    with front(registry, lambda request: Answer(status) if is_manifest(request, "PUT") else None) as broken:
        failed = failure(engine, image, broken.address)
    assert failed.id == id
    assert words in failed.message
    assert str(status) in (failed.cause or "")


def test_an_image_that_the_engine_does_not_have_cannot_be_pushed(engine: Engine, registry: str) -> None:
    assert failure(engine, "caliban-no-such-image:1", registry).id == "image-not-found"


EVENT = b'{"status": "Preparing", "id": "0123456789ab"}\r\n'
CUT_SHORT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(EVENT), EVENT)


def refusal(status: bytes, message: bytes) -> bytes:
    body = b'{"message": "%s"}' % message
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "id"),
    [
        (CUT_SHORT, "docker-unreachable"),
        (CUT_SHORT + b"0\r\n\r\n", "docker-unreachable"),
        (refusal(b"404 Not Found", b"tag does not exist"), "docker-refused"),
        (refusal(b"500 Internal Server Error", b"unauthorized: log in"), "push-refused"),
        (refusal(b"500 Internal Server Error", b"connection reset by peer"), "push-failed"),
    ],
)
def test_an_engine_that_cannot_push_is_told_by_who_failed(
    registry: str, image: str, tmp_path: Path, answer: bytes, id: str
) -> None:
    with engine_that_answers_a_push(tmp_path, answer) as address:
        engine = Engine.connect({**os.environ, "DOCKER_HOST": address})
        assert failure(engine, image, registry).id == id
        engine.close()


class Interrupting(RecordingReporter):
    """Stands for a person who presses Ctrl-C when the first layer is on its way."""

    def note(self, text: str) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_push_leaves_no_name_behind(engine: Engine, registry: str, image: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        push(engine, image, registry, Interrupting(), login=None)
    assert names(engine, image) == []


def test_a_password_is_in_no_representation() -> None:
    assert repr(LOGIN) == "Login(username='totoro')"


def test_importing_the_module_imports_neither_docker_nor_requests() -> None:
    code = (
        "import sys, caliban.images.registry\n"
        "sys.exit(int(any(name.split('.')[0] in ('docker', 'requests') for name in sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
