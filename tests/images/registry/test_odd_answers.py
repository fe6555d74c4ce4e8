"""What a registry, its token service or a credential helper answers can be anything; no login goes astray by it."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.clock import SystemClock
from caliban.errors import ImageError
from caliban.images.registry.api import AccessDeniedError, RealmRefusedError, RegistryUnavailableError, find_digest
from caliban.images.registry.auth import Login, stored_login
from caliban.images.registry.push import Registry
from caliban.redaction import HIDDEN
from tests.fakes import FakeClock, RecordingReporter
from tests.sampling import examples

from .registries import PASSWORD, USER, Answer, Request, TokenRules, error, front

LOGIN = Login(USER, PASSWORD)
IMAGE_ID = "sha256:" + "ab" * 32


class Probed(Registry):
    def login(self) -> Login | None:
        return LOGIN


def ask(answer: Callable[[Request], Answer | None], login: Login | None = LOGIN) -> str | None:
    with front("", answer) as server:
        return find_digest(f"{server.address}/a:latest", IMAGE_ID, login)


def challenge(realm: str) -> Answer:
    return Answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})


@pytest.mark.parametrize("path", ["/v2/", "/token"])
def test_a_login_is_not_sent_to_another_site(path: str) -> None:
    with front("", lambda _: Answer(200, b'{"token": "t"}')) as other:
        realm = f"http://localhost:80@{other.address}{path}"
        with pytest.raises(RealmRefusedError):
            ask(lambda _: challenge(realm))
    assert other.requests == []


@pytest.mark.parametrize("is_push", [False, True])
def test_a_push_whose_login_would_go_to_another_site_is_refused(is_push: bool) -> None:
    with front("", lambda _: challenge("https://evil.test/token")) as server:
        registry = Probed(f"{server.address}/team", RecordingReporter())
        reference = f"{server.address}/team/a:latest"
        with pytest.raises(ImageError) as caught:
            registry._find_digest(reference, IMAGE_ID, LOGIN) if is_push else registry.check()
    assert caught.value.id == "registry-realm-refused"
    assert "evil.test" in str(caught.value.cause)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_of_a_token_service_are_not_followed(status: int) -> None:
    with front("", lambda _: Answer(200, b'{"token": "t"}')) as other:
        rules = TokenRules()
        moved = Answer(status, b"", {"Location": f"http://{other.address}/token"})
        with front("", lambda request: moved if request.path.startswith("/token") else rules(request)) as server:
            rules.address = server.address
            with pytest.raises(RegistryUnavailableError):
                find_digest(f"{server.address}/a:latest", IMAGE_ID, LOGIN)
    assert other.requests == []


ODD = {
    "no JSON": b"<html>",
    "nothing": b"",
    "a list": b"[]",
    "deep JSON": b'{"config":' * 5000,
    "not UTF-8": b'{"config": "\xff"}',
    "a number out of range": b'{"config": 1e999}',
    "a configuration of another type": b'{"config": [1]}',
    "texts that cannot be stored": b'{"config": {"digest": "\\ud800\\u0000"}}',
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500, 520, 302])
def test_an_odd_answer_is_no_digest_of_the_image(status: int, content: bytes) -> None:
    try:
        assert ask(lambda _: Answer(status, content)) is None
    except (AccessDeniedError, RegistryUnavailableError) as failure:
        str(failure).encode()


@pytest.mark.parametrize("token", [b"5", b"null", b'""', b'"a b"', b'"\\n"', b'"a\\nb"', b'"\xc3\xa9"', b"[]", b"{}"])
def test_a_token_that_no_header_can_have_is_none(token: bytes) -> None:
    rules = TokenRules()
    answer = Answer(200, b'{"token": %s}' % token)
    with front("", lambda request: answer if request.path.startswith("/token") else rules(request)) as server:
        rules.address = server.address
        with pytest.raises(RegistryUnavailableError, match="returned no token"):
            find_digest(f"{server.address}/a:latest", IMAGE_ID, LOGIN)


def test_a_newline_at_the_end_of_a_token_is_not_part_of_it() -> None:
    rules = TokenRules()
    answer = Answer(200, json.dumps({"token": f"{rules.token}\n"}).encode())

    def registry(request: Request) -> Answer | None:
        if request.path.startswith("/token"):
            return answer
        return rules(request) or Answer(404)

    with front("", registry) as server:
        rules.address = server.address
        assert find_digest(f"{server.address}/a:latest", IMAGE_ID, LOGIN) is None


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=200))
def test_any_challenge_is_answered_or_an_error(value: str) -> None:
    header = {"WWW-Authenticate": value.strip()}
    with pytest.raises((AccessDeniedError, RegistryUnavailableError)):
        ask(lambda _: Answer(401, b"", header))


@pytest.mark.parametrize("piece", ["a", "a=", 'a="', "bearer ", "bearer a"])
def test_a_long_challenge_takes_bounded_work(piece: str) -> None:
    header = {"WWW-Authenticate": "Bearer " + piece * (60_000 // len(piece))}
    with pytest.raises((AccessDeniedError, RegistryUnavailableError)):
        ask(lambda _: Answer(401, b"", header))


def test_a_body_that_decompresses_to_gigabytes_is_given_up() -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    with pytest.raises(RegistryUnavailableError, match="larger than 8 MiB"):
        ask(lambda _: Answer(200, bomb, {"Content-Encoding": "gzip"}))


def test_control_characters_of_an_error_are_escaped() -> None:
    with pytest.raises(AccessDeniedError) as caught:
        ask(lambda _: Answer(401, error("DENIED", "\x1b[2Jno\u202e")))
    assert str(caught.value) == "denied: \\x1b[2Jno\\u202e"


@pytest.mark.parametrize("is_push", [False, True])
def test_a_registry_that_takes_long_causes_a_word(is_push: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caliban.threads.SLOW", 0.0)
    answered = threading.Event()

    class Reporter(RecordingReporter):
        def info(self, *lines: str) -> None:
            super().info(*lines)
            answered.set()

    def answer(_: Request) -> Answer:
        answered.wait(20)
        return Answer(404, b"")

    reporter = Reporter()
    with front("", answer) as server:
        registry = Probed(f"{server.address}/team", reporter)
        if is_push:
            registry._find_digest(f"{server.address}/team/a:latest", IMAGE_ID, LOGIN)
        else:
            registry.check()
    assert reporter.lines[0] == f"waiting for an answer of the registry {registry.host} ..."


@pytest.fixture
def helper(docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a credential helper."""

    def install(script: str) -> None:
        program = docker_config.parent / "docker-credential-planted"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{docker_config.parent}:{os.environ['PATH']}")
        docker_config.write_text(json.dumps({"credsStore": "planted"}))

    return install


def test_a_helper_that_hangs_is_ignored_with_a_warning(helper: Callable[[str], None]) -> None:
    helper("sleep 1000")
    reporter = RecordingReporter()
    assert stored_login("h:1", reporter, FakeClock()) is None
    assert reporter.warnings == [
        "cannot read docker's stored login for h:1: docker-credential-planted: docker-credential-planted did not end "
        "within 60 s"
    ]


def test_a_helper_that_writes_without_end_is_ignored_with_a_warning(helper: Callable[[str], None]) -> None:
    helper("exec yes")
    reporter = RecordingReporter()
    assert stored_login("h:1", reporter, SystemClock()) is None
    assert "wrote more than 1 MiB" in reporter.warnings[0]


def test_a_helper_gets_the_registry_and_its_login_is_used(helper: Callable[[str], None]) -> None:
    helper("""read host; printf '{"Username": "totoro", "Secret": "%s-secret\\\\n"}' "$host" """)
    assert stored_login("h:1", RecordingReporter()) == Login("totoro", "h:1-secret")


def test_docker_hub_has_its_own_key(helper: Callable[[str], None]) -> None:
    helper("""read host; printf '{"Username": "totoro", "Secret": "%s"}' "$host" """)
    assert stored_login("docker.io", RecordingReporter()) == Login("totoro", "https://index.docker.io/v1/")


@pytest.mark.parametrize(
    "script",
    [
        "echo credentials not found in native keychain; exit 1",
        "echo Credentials not found in native keychain. >&2; exit 1",
        "echo credentials not found in native keychain",
        "echo no credentials server URL; exit 1",
        "echo no credentials username; exit 1",
        "echo The specified item could not be found in the keychain.; exit 1",
        'printf \'{"ServerURL": "", "Username": "", "Secret": ""}\'',
    ],
)
def test_a_registry_that_the_helper_does_not_know_has_no_login(helper: Callable[[str], None], script: str) -> None:
    helper(script)
    reporter = RecordingReporter()
    assert (stored_login("h:1", reporter), reporter.warnings) == (None, [])


def test_a_login_whose_secret_has_the_words_of_a_helper_is_a_login(helper: Callable[[str], None]) -> None:
    helper("""printf '{"Username": "totoro", "Secret": "credentials not found in native keychain"}'""")
    login = stored_login("h:1", RecordingReporter())
    assert login is not None
    assert login.username == "totoro"


BROKEN = {
    "echo broken >&2; exit 3": "docker-credential-planted exited with status 3: broken",
    "echo nonsense": "docker-credential-planted did not answer with a JSON object",
    "echo '[1]'": "docker-credential-planted did not answer with a JSON object",
    "printf '{\"Username\": 5}'": "docker-credential-planted answered without a user name or secret",
    "exit 0": "docker-credential-planted did not answer with a JSON object",
    "kill -9 $$": "docker-credential-planted exited with status -9: ",
}


REPAIR = 'repair the credential helper, or remove it ("credsStore", "credHelpers") from docker\'s config.json'


def unauthorized(_: Request) -> Answer:
    return Answer(401, error("UNAUTHORIZED", "authentication required"))


@pytest.mark.parametrize(("script", "problem"), BROKEN.items())
def test_a_registry_that_wants_a_login_is_told_with_the_helper_that_failed(
    helper: Callable[[str], None], script: str, problem: str
) -> None:
    helper(script)
    reporter = RecordingReporter()
    with front("", unauthorized) as server, pytest.raises(ImageError) as caught:
        Registry(f"{server.address}/lab", reporter).check()
    host = server.address
    warning = f"cannot read docker's stored login for {host}: {problem}".rstrip()
    assert [line.rstrip() for line in reporter.warnings] == [warning]
    assert caught.value.message == f"cannot push images to {host}/lab: no login for {host}"
    assert (caught.value.cause or "").rstrip() == f"unauthorized: authentication required\n{warning}"
    assert (caught.value.hint or "").startswith(f"{REPAIR}; run: docker login ")


def test_a_missing_helper_is_named_where_a_login_is_needed(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"credsStore": "caliban-none"}))
    with front("", unauthorized) as server, pytest.raises(ImageError) as caught:
        Registry(f"{server.address}/lab", RecordingReporter()).check()
    assert "docker-credential-caliban-none not installed or not available in PATH" in (caught.value.cause or "")


def test_a_helper_that_failed_is_not_run_for_the_push_again(helper: Callable[[str], None], docker_config: Path) -> None:
    log = docker_config.parent / "runs"
    helper(f"echo run >> {log}; exit 3")
    registry = Registry("h:1/lab", reporter := RecordingReporter())
    assert [registry.login(), registry.login()] == [None, None]
    assert (log.read_text(), len(reporter.warnings)) == ("run\n", 1)


def test_a_login_is_read_again_for_the_push_as_it_may_have_been_renewed(
    helper: Callable[[str], None], docker_config: Path
) -> None:
    log = docker_config.parent / "runs"
    helper(f"""echo run >> {log}; printf '{{"Username": "totoro", "Secret": "%s"}}' $(wc -l < {log})""")
    registry = Registry("h:1/lab", RecordingReporter())
    assert [registry.login(), registry.login()] == [Login("totoro", "1"), Login("totoro", "2")]


def test_a_helper_of_the_registry_that_has_no_login_is_named(
    helper: Callable[[str], None], docker_config: Path
) -> None:
    helper("echo credentials not found in native keychain; exit 1")
    with front("", unauthorized) as server:
        docker_config.write_text(json.dumps({"credHelpers": {server.address: "planted"}}))
        with pytest.raises(ImageError) as caught:
            Registry(f"{server.address}/lab", reporter := RecordingReporter()).check()
    assert reporter.warnings == []
    assert f"docker-credential-planted has no login for {server.address}" in (caught.value.cause or "")
    assert (caught.value.hint or "").startswith("check the account that the credential helper uses, or remove ")


def test_an_unreadable_configuration_of_docker_is_named_where_a_login_is_needed(docker_config: Path) -> None:
    docker_config.write_text("[]")
    with front("", unauthorized) as server, pytest.raises(ImageError) as caught:
        Registry(f"{server.address}/lab", RecordingReporter()).check()
    assert f"{docker_config} is not a JSON object" in (caught.value.cause or "")
    assert (caught.value.hint or "").startswith("correct docker's config.json; run: docker login ")


def test_a_helper_that_fails_leaves_the_login_of_the_file(helper: Callable[[str], None], docker_config: Path) -> None:
    helper("exit 3")
    docker_config.write_text(json.dumps({"credsStore": "planted", "auths": {"h:1": {"auth": "dTpw"}}}))
    reporter = RecordingReporter()
    assert stored_login("h:1", reporter) == Login("u", "p")
    assert "exited with status 3" in reporter.warnings[0]


def test_a_helper_that_may_not_be_run_is_named(helper: Callable[[str], None], docker_config: Path) -> None:
    helper("exit 0")
    (docker_config.parent / "docker-credential-planted").write_bytes(b"\0")
    stored_login("h:1", reporter := RecordingReporter())
    assert "docker-credential-planted" in reporter.warnings[0]


def test_a_secret_that_a_helper_shows_is_hidden(helper: Callable[[str], None]) -> None:
    helper("""echo '{"Username": "totoro", "Secret": "planted-secret"}' >&2; exit 1""")
    reporter = RecordingReporter()
    stored_login("h:1", reporter)
    assert "planted-secret" not in reporter.warnings[0]
    assert HIDDEN in reporter.warnings[0]


@pytest.mark.parametrize("name", ["../planted", "a b", "", "-x", "a/b"])
def test_a_malformed_helper_is_not_run(docker_config: Path, name: str) -> None:
    docker_config.write_text(json.dumps({"credHelpers": {"h:1": name}, "auths": {}}))
    assert stored_login("h:1", RecordingReporter()) is None


def test_a_configuration_that_is_a_pipe_is_ignored_with_a_warning(docker_config: Path) -> None:
    docker_config.unlink()
    os.mkfifo(docker_config)
    reporter = RecordingReporter()
    assert stored_login("h:1", reporter) is None
    assert "named pipe" in reporter.warnings[0]
