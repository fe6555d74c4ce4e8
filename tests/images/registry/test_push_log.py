from __future__ import annotations

import pytest

from caliban.errors import ImageError
from caliban.images.registry.push_log import PushLog
from tests.images.helpers import RecordingReporter


def failure(words: str) -> ImageError:
    return ImageError("push-refused", f"failed: {words}")


def log_of(reporter: RecordingReporter, size: int = 1000) -> PushLog:
    reporter.done.append(0)
    return PushLog(size, reporter, failure)


def layer(current: int) -> dict[str, object]:
    return {"status": "Pushing", "id": "aa", "progressDetail": {"current": current, "total": 900}}


def test_a_layer_that_is_sent_again_is_counted_once(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    for current in (100, 600, 50, 700):
        log.feed(layer(current))
    assert reporter.done == [700]


def test_the_headers_of_the_archive_of_a_layer_are_not_counted(reporter: RecordingReporter) -> None:
    log_of(reporter).feed(layer(1500))
    assert reporter.done == [1000]


@pytest.mark.parametrize(
    "event", [{"aux": {"Digest": "sha256:" + "a" * 64}}, {"status": f"latest: digest: sha256:{'a' * 64} size: 741"}]
)
def test_a_push_ends_with_the_digest(reporter: RecordingReporter, event: dict[str, object]) -> None:
    log = log_of(reporter)
    log.feed(event)
    assert (log.digest, reporter.done) == (f"sha256:{'a' * 64}", [1000])


def test_other_events_do_not_end_a_push(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"status": "The push refers to repository [registry.example.com/team/0123456789ab]"})
    log.feed({"status": "Preparing", "id": "aa", "progressDetail": {}})
    log.feed({"aux": {"manifestPushedInsteadOfIndex": True}})
    assert (log.digest, reporter.notes) == (None, ["aa: Preparing"])


def test_an_error_event_is_raised(reporter: RecordingReporter) -> None:
    with pytest.raises(ImageError) as caught:
        log_of(reporter).feed({"error": "unauthorized: no login", "errorDetail": {}})
    assert caught.value.message == "failed: unauthorized: no login"
