from __future__ import annotations

import pytest

from caliban.errors import ImageError
from caliban.images.push_log import PushLog, push_failure
from caliban.images.registry_login import Login
from tests.images.helpers import RecordingReporter

IMAGE = "registry.example.com/team/0123456789ab:latest"


def log_of(reporter: RecordingReporter, size: int = 1000) -> PushLog:
    reporter.done.append(0)
    return PushLog(IMAGE, size, Login("totoro", "planted-secret"), reporter)


def layer(current: int) -> dict[str, object]:
    return {"status": "Pushing", "id": "aa", "progressDetail": {"current": current, "total": 900}}


def test_a_layer_that_is_sent_anew_is_counted_once(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    for current in (100, 600, 50, 700):
        log.feed(layer(current))
    assert reporter.done == [700]


def test_the_headers_of_a_layers_archive_are_not_counted(reporter: RecordingReporter) -> None:
    log_of(reporter).feed(layer(1500))
    assert reporter.done == [1000]


@pytest.mark.parametrize(
    "event", [{"aux": {"Digest": "sha256:" + "a" * 64}}, {"status": f"latest: digest: sha256:{'a' * 64} size: 741"}]
)
def test_a_push_is_done_when_the_engine_tells_the_digest(reporter: RecordingReporter, event: dict[str, object]) -> None:
    log = log_of(reporter)
    log.feed(event)
    assert (log.is_done, reporter.done) == (True, [1000])


def test_other_events_do_not_end_it(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"status": "The push refers to repository [registry.example.com/team/0123456789ab]"})
    log.feed({"status": "Preparing", "id": "aa", "progressDetail": {}})
    assert (log.is_done, reporter.notes) == (False, ["aa: Preparing"])


def test_an_error_is_told_without_the_password(reporter: RecordingReporter) -> None:
    with pytest.raises(ImageError) as caught:
        log_of(reporter).feed({"error": "unauthorized: not with planted-secret", "errorDetail": {}})
    assert caught.value.cause == "unauthorized: not with ***"


@pytest.mark.parametrize(
    ("words", "id"),
    [
        ("denied: requested access to the resource is denied", "push-refused"),
        ("unauthorized: authentication required", "push-refused"),
        ("no basic auth credentials", "push-refused"),
        ("unexpected status: 401 Unauthorized", "push-refused"),
        ("error parsing HTTP 403 response body: invalid character", "push-refused"),
        ('name unknown: Repository "images" not found', "push-refused"),
        ("blob upload: no space left on device", "registry-full"),
        ("denied: the project's quota exceeded", "registry-full"),
        ("received unexpected HTTP status: 507 Insufficient Storage", "registry-full"),
        ("received unexpected HTTP status: 500 Internal Server Error", "push-failed"),
        ("dial tcp: lookup registry.example.com: no such host", "push-failed"),
        ("x509: certificate signed by unknown authority", "push-failed"),
        ("write tcp 10.0.0.1:4030: broken pipe", "push-failed"),
    ],
)
def test_the_registrys_words_decide_what_is_wrong(words: str, id: str) -> None:
    failed = push_failure(words, IMAGE, None)
    assert (failed.id, failed.cause) == (id, words)


def test_a_refusal_by_artifact_registry_names_the_repository_and_the_role() -> None:
    hint = push_failure("denied: no", "us-docker.pkg.dev/totoro-project/images/0123456789ab:latest", None).hint or ""
    assert "the repository totoro-project/images must exist in us " in hint
    assert "roles/artifactregistry.writer" in hint


def test_a_refusal_by_gcr_io_names_the_role_that_makes_the_repository() -> None:
    hint = push_failure("denied: no", "gcr.io/totoro-project/0123456789ab:latest", None).hint or ""
    assert "the repository gcr.io must exist" in hint
    assert "roles/artifactregistry.createOnPushWriter" in hint
