"""What Google's error answers become."""

from __future__ import annotations

import json

import pytest

from caliban.platforms.google.errors import GoogleRefusedError, parse_error, refusal_of


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
        (
            [{"violations": [{"subject": "p", "description": "2 K80 requested"}, {"description": "no"}]}],
            ["2 K80 requested"],
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


def refusal(code: int, status: str, message: str, details: object = None) -> GoogleRefusedError:
    content = json.dumps({"error": {"code": code, "status": status, "message": message, "details": details}}).encode()
    error = refusal_of(code, "", content, "do it", None)
    assert isinstance(error, GoogleRefusedError)
    return error


def info(reason: str, **metadata: str) -> list[dict[str, object]]:
    return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "metadata": metadata}]


PER_MINUTE = (
    "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit 'Resource management (CRUD) "
    "requests per minute per region' of service 'aiplatform.googleapis.com' for consumer 'project_number:1'."
)
K80 = "The request for 2 K80 accelerators exceeds the allowed maximum of 0 A100, 0 K80 accelerators."


@pytest.mark.parametrize(
    ("message", "details"),
    [
        (PER_MINUTE, None),
        (PER_MINUTE, info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerMinutePerProject", quota_limit_value="600")),
        (PER_MINUTE.replace("per minute per region", "per 100 seconds per user"), None),
        ("Resource has been exhausted (e.g. check quota).", None),
        ("Resource has been exhausted (e.g. check quota).", [{"violations": [{"description": "too fast"}]}]),
        ("Too many requests.", "something else"),
        ("Too many requests.", [{"violations": "x"}, {"reason": 3, "metadata": []}]),
    ],
)
def test_a_quota_of_requests_is_waited_for(message: str, details: object) -> None:
    error = refusal(429, "RESOURCE_EXHAUSTED", message, details)
    assert (error.is_transient, error.is_over_quota, error.hint) == (
        True,
        True,
        "try again later, or request more quota",
    )


@pytest.mark.parametrize(
    ("message", "details"),
    [
        (
            "The following quota metrics exceed quota limits: "
            "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus",
            None,
        ),
        ("The following quota metric exceeds quota limits: aiplatform.googleapis.com/custom_model_training_cpus", None),
        ("The following quotas are exceeded: CustomModelTrainingTPUV2", None),
        (f"Quota failure for project p. {K80}", [{"violations": [{"subject": "p", "description": K80}]}]),
        ("Quota failure.", [{"violations": [{"subject": "p", "description": K80}]}]),
        ("Exceeded the max allowed number of jobs per project: 100.", None),
        ("Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.", None),
        ("Quota exceeded for quota metric 'GPUs' and limit 'GPUs per region' of service 'x.googleapis.com'.", None),
        ("Denied.", info("RESOURCE_QUOTA_EXCEEDED", quota_metric="x.googleapis.com/gpus")),
        (PER_MINUTE.replace("per minute per region", "per day"), info("RATE_LIMIT_EXCEEDED")),
        ("Quota exceeded.", info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDayPerProject")),
    ],
)
def test_a_quota_that_waiting_does_not_change_is_an_error_at_once_in_googles_words(
    message: str, details: object
) -> None:
    error = refusal(429, "RESOURCE_EXHAUSTED", message, details)
    assert (error.id, error.is_transient, error.is_over_quota) == ("google-quota-exhausted", False, False)
    assert message in str(error.cause)
    assert "request more quota" in str(error.hint)


def test_the_delay_that_an_error_asks_for_is_followed() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}]
    assert refusal(429, "RESOURCE_EXHAUSTED", PER_MINUTE, details).retry_after == 12.5


@pytest.mark.parametrize(
    ("message", "details", "hint"),
    [
        (
            "Caller does not have required permission to use project p.",
            info("USER_PROJECT_DENIED", service="aiplatform.googleapis.com", consumer="projects/p"),
            "$GOOGLE_CLOUD_QUOTA_PROJECT",
        ),
        (
            "The aiplatform.googleapis.com API requires a quota project, which is not set by default.",
            info("SERVICE_DISABLED", service="aiplatform.googleapis.com", consumer="projects/764086051850"),
            "set-quota-project",
        ),
        (
            "Vertex AI API has not been used in project 1 before or it is disabled.",
            info("SERVICE_DISABLED", service="aiplatform.googleapis.com", consumer="projects/my-project"),
            "run: gcloud services enable aiplatform.googleapis.com --project my-project",
        ),
        ("Disabled.", info("SERVICE_DISABLED", service="$(rm x).googleapis.com", consumer="projects/p"), "the role"),
        ("Disabled.", info("SERVICE_DISABLED", service="x.googleapis.com", consumer="projects/$(rm x)"), "the role"),
        ("This API method requires billing to be enabled.", info("BILLING_DISABLED"), "billing account"),
        ("Denied.", info("IAM_PERMISSION_DENIED"), "ask the project's owner for the role aiplatform.user"),
    ],
)
def test_the_hint_is_about_what_google_names_as_the_reason(message: str, details: object, hint: str) -> None:
    assert hint in str(refusal(403, "PERMISSION_DENIED", message, details).hint)
