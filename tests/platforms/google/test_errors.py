"""What Google's error answers become."""

from __future__ import annotations

import json

import pytest

from caliban.platforms.google.errors import GoogleRefusedError, parse_error


def body(message: str = "no", **fields: object) -> bytes:
    return json.dumps({"error": {"code": 400, "message": message, **fields}}).encode()


def test_google_s_message_is_the_cause() -> None:
    assert parse_error(body("Quota exceeded.", status="RESOURCE_EXHAUSTED"), "Too Many Requests") == (
        "RESOURCE_EXHAUSTED",
        "Quota exceeded.",
    )


def test_an_html_page_is_the_cause_as_it_is() -> None:
    assert parse_error(b"<html>Bad gateway</html>", "Bad Gateway") == ("", "<html>Bad gateway</html>")


@pytest.mark.parametrize("content", [b"", b"  "])
def test_an_empty_answer_has_its_reason_as_cause(content: bytes) -> None:
    assert parse_error(content, "Bad Gateway") == ("", "Bad Gateway")


@pytest.mark.parametrize("content", [b"[]", b'{"error": "denied"}', b'{"error": {}}', b"null"])
def test_an_error_of_another_shape_is_the_cause_as_it_is(content: bytes) -> None:
    assert parse_error(content, "Forbidden") == ("", content.decode())


@pytest.mark.parametrize(
    ("details", "added"),
    [
        ([{"fieldViolations": [{"field": "job.labels", "description": "too many"}]}], ["job.labels: too many"]),
        ([{"fieldViolations": [{"field": "job.labels", "description": "no"}]}], []),
        (
            [{"reason": "SERVICE_DISABLED", "metadata": {"service": "ml.googleapis.com"}}],
            ["SERVICE_DISABLED, service: ml.googleapis.com"],
        ),
        ([{"reason": "SERVICE_DISABLED"}], ["SERVICE_DISABLED"]),
        (
            [{"links": [{"description": "Enable it", "url": "https://console.example.com/enable"}]}],
            ["Enable it: https://console.example.com/enable"],
        ),
        (["something else"], []),
        ("something else", []),
    ],
)
def test_details_add_what_the_message_lacks(details: object, added: list[str]) -> None:
    assert parse_error(body(details=details), "")[1].splitlines() == ["no", *added]


@pytest.mark.parametrize(
    ("code", "id", "message"),
    [
        (400, "google-bad-request", "cannot do it: bad request"),
        (401, "google-not-authenticated", "cannot do it: access token not accepted"),
        (403, "google-permission-denied", "cannot do it: permission denied"),
        (404, "google-not-found", "cannot do it: not found"),
        (409, "google-conflict", "cannot do it: already exists"),
        (418, "google-refused", "cannot do it: request refused"),
        (429, "google-quota-exhausted", "cannot do it: quota exceeded"),
        (501, "google-unavailable", "cannot do it: service unavailable"),
    ],
)
def test_each_status_has_its_own_name_and_message(code: int, id: str, message: str) -> None:
    error = GoogleRefusedError(code, "", "do it", "")
    assert (error.id, error.message, error.cause) == (id, message, f"HTTP {code}")
