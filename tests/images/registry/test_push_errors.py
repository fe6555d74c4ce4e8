"""What the messages of a registry that does not accept an image mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caliban.errors import ImageError
from caliban.images.registry.api import AccessDeniedError
from caliban.images.registry.auth import Login
from caliban.images.registry.errors import push_failure
from caliban.images.registry.push import Registry
from tests.images.helpers import RecordingReporter

IMAGE = "registry.example.com/team/0123456789ab:latest"
COMMIT_FAILED = (
    'failed commit on ref "manifest-sha256:0": unexpected status from PUT request to http://localhost:5000/v2/'
)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        ("denied: requested access to the resource is denied", "push-refused"),
        ("unauthorized: authentication required", "push-refused"),
        ("no basic auth credentials", "push-refused"),
        ("unexpected status: 401 Unauthorized", "push-refused"),
        ("error parsing HTTP 403 response body: invalid character", "push-refused"),
        ('name unknown: Repository "images" not found', "push-refused"),
        ("error from registry: you may not write here", "push-refused"),
        ("blob upload: no space left on device", "registry-full"),
        ("denied: the project's quota exceeded", "registry-full"),
        ("received unexpected HTTP status: 507 Insufficient Storage", "registry-full"),
        ("received unexpected HTTP status: 500 Internal Server Error", "push-failed"),
        (f"unknown: {COMMIT_FAILED}: 500 Internal Server Error", "push-failed"),
        (f"unknown: {COMMIT_FAILED}: 507 Insufficient Storage", "registry-full"),
        ("dial tcp: lookup registry.example.com: no such host", "push-failed"),
        ("x509: certificate signed by unknown authority", "push-failed"),
        ("write tcp 10.0.0.1:4030: broken pipe", "push-failed"),
        ("x509: certificate has expired or is not yet valid", "push-failed"),
        ("blob upload invalid: the upload session has expired", "push-failed"),
        ("ExpiredToken: the provided token has expired", "push-refused"),
    ],
)
def test_the_message_of_the_registry_decides_the_error(words: str, id: str) -> None:
    failed = push_failure(words, IMAGE, "log in")
    assert (failed.id, failed.cause) == (id, words)


def test_an_engine_that_names_the_failed_request_is_not_reported_as_unreachable() -> None:
    failed = push_failure(f"unknown: {COMMIT_FAILED}: 500 Internal Server Error", IMAGE, "log in")
    assert "failed while receiving" in failed.message


def test_only_a_denied_push_has_the_hint_about_access() -> None:
    assert push_failure("denied: no", IMAGE, "log in").hint == "log in"
    assert push_failure("broken pipe", IMAGE, "log in").hint != "log in"


def test_a_registry_that_cannot_be_asked_before_a_build_is_no_error() -> None:
    Registry("registry.invalid/team", RecordingReporter()).check()


def test_registries_are_compared_by_type_repository_and_by_digest() -> None:
    class OtherRegistry(Registry):
        pass

    make: Callable[..., Registry] = Registry
    one = make("localhost:5000", RecordingReporter())
    assert one == make("localhost:5000", RecordingReporter())
    assert hash(one) == hash(make("localhost:5000", RecordingReporter()))
    others = [
        make("localhost:5001", one.reporter),
        make("localhost:5000", one.reporter, by_digest=False),
        OtherRegistry("localhost:5000", one.reporter),
    ]
    assert all(one != other for other in others)


def test_a_registry_of_a_provider_explains_messages_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(Registry):
        def login(self) -> Login | None:
            return Login("totoro", "planted-secret")

        def explain(self, words: str) -> ImageError | None:
            return ImageError("repository-missing", words)

    def deny(*arguments: object) -> str:
        raise AccessDeniedError("denied: not with planted-secret")

    class Engine:
        def image_id(self, image: str) -> str:
            return image

    monkeypatch.setattr("caliban.images.registry.push.find_digest", deny)
    monkeypatch.setattr("caliban.images.registry.push.request_push_access", deny)
    registry = Provider("localhost:5000", RecordingReporter())
    for request in (registry.check, lambda: registry.push(Engine(), "sha256:" + "a" * 64)):  # type: ignore[arg-type]
        with pytest.raises(ImageError) as caught:
            request()
        assert (caught.value.id, caught.value.message) == ("repository-missing", "denied: not with ***")


def test_a_denied_check_has_the_hint_about_access(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithLogin(Registry):
        def login(self) -> Login | None:
            return Login("totoro", "planted-secret")

    def deny(*arguments: object) -> str:
        raise AccessDeniedError("denied")

    monkeypatch.setattr("caliban.images.registry.push.request_push_access", deny)
    monkeypatch.setattr("caliban.images.registry.push.challenge_of", lambda host: "")
    with pytest.raises(ImageError) as caught:
        WithLogin("localhost:5000/team", RecordingReporter()).check()
    assert (caught.value.id, caught.value.message, caught.value.cause, caught.value.hint) == (
        "push-refused",
        "cannot push images to localhost:5000/team: access denied",
        "denied",
        "run: docker login localhost:5000, as a user who may push to localhost:5000/team",
    )
