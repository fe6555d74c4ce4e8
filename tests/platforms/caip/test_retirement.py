"""AI Platform Training was shut down: how that is recognized and reported, and what does not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.caip.client import retirement
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.errors import GoogleRefusedError
from caliban.records import StatusUnavailable
from tests.platforms.caip.helpers import CaipBackend, recorded_job, submission
from tests.standins.discovery import ApiError
from tests.standins.ml_v1 import shut_down

NOT_USED = (
    "AI Platform Training & Prediction API has not been used in project 1234 before or it is disabled. Enable it by "
    "visiting https://console.developers.google.com/apis/api/ml.googleapis.com/overview?project=1234 then retry."
)
GOOGLES_404 = "<!DOCTYPE html>\n<html lang=en><title>Error 404 (Not Found)!!1</title>"


def raising(error: CalibanError) -> Callable[..., NoReturn]:
    def ask(*arguments: object) -> NoReturn:
        raise error

    return ask


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (400, "FAILED_PRECONDITION", str(shut_down())),
        (403, "PERMISSION_DENIED", NOT_USED),
        (403, "PERMISSION_DENIED", "no\nSERVICE_DISABLED, consumer: projects/1234, service: ml.googleapis.com"),
        (404, "", GOOGLES_404),
        (404, "NOT_FOUND", "Method not found."),
        (410, "", ""),
        (501, "UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
    ],
)
def test_an_answer_of_a_retired_service_is_recognized(code: int, status: str, words: str) -> None:
    found = retirement(GoogleRefusedError(code, status, "list the jobs", words))
    assert found is not None
    assert (found.id, found.successor) == ("service-gone", "vertex")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (400, "INVALID_ARGUMENT", "Field: job.region Error: there is no such region"),
        (403, "PERMISSION_DENIED", "Permission 'ml.jobs.list' denied on resource '//ml.googleapis.com/projects/x'"),
        (404, "NOT_FOUND", "Field: name Error: The job caliban_totoro_1 was not found."),
        (404, "NOT_FOUND", "Field: parent Error: The project x was not found, or is not visible to you."),
        (503, "UNAVAILABLE", "The service is currently unavailable."),
    ],
)
def test_any_other_refusal_is_not_taken_for_a_retirement(code: int, status: str, words: str) -> None:
    assert retirement(GoogleRefusedError(code, status, "list the jobs", words)) is None


def test_an_html_page_is_not_shown() -> None:
    found = retirement(GoogleRefusedError(404, "", "list the jobs", GOOGLES_404))
    assert found is not None
    assert found.cause == "HTTP 404, with an HTML page as answer"


def test_connecting_reports_the_retirement_with_one_request(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.end = shut_down()
    with pytest.raises(ServiceRetiredError) as caught:
        platform.connect(backend.destination())
    assert caught.value.message == (
        "AI Platform Training was shut down by Google on 2025-01-31, and Container Registry on 2025-03-18"
    )
    assert caught.value.cause == str(shut_down())
    assert caught.value.hint is not None
    assert "omit --platform caip" in caught.value.hint
    assert backend.service.counts == {"oauth.token": 1, "ml.projects.jobs.list": 1}


def test_a_user_who_may_not_list_jobs_can_still_connect(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.forbidden.add("ml.jobs.list")
    platform.connect(backend.destination())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_states_are_kept_and_the_retirement_is_announced_once(
    count: int, backend: CaipBackend, platform: CaipPlatform
) -> None:
    backend.service.end = shut_down()
    found = platform.statuses([recorded_job(f"job_{number}", id=number) for number in range(count)])
    assert found == {
        number: StatusUnavailable("the service was shut down", is_permanent=True) for number in range(count)
    }
    assert len(backend.reporter.lines) == 1
    assert "--platform vertex" in backend.reporter.lines[0]


def test_many_jobs_need_one_request(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.end = shut_down()
    platform.statuses([recorded_job(f"job_{number}", id=number) for number in range(40)])
    assert backend.service.counts == {"oauth.token": 1, "ml.projects.jobs.list": 1}


def test_a_disabled_api_does_not_make_jobs_unknown(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.end = ApiError(403, NOT_USED)
    assert platform.statuses([recorded_job()]) == {1: StatusUnavailable("the service was shut down", is_permanent=True)}


def test_an_interrupted_submission_did_not_become_a_job(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.end = shut_down()
    assert platform.find(submission()) is None


def test_an_html_page_leaves_an_interrupted_submission_open(platform: CaipPlatform) -> None:
    retired = retirement(GoogleRefusedError(404, "", "ask after the job", GOOGLES_404))
    assert retired is not None
    platform.client.get = raising(retired)  # type: ignore[method-assign]  # the stand-in has no such page
    with pytest.raises(ServiceRetiredError):
        platform.find(submission())


def test_a_job_cannot_be_stopped(backend: CaipBackend, platform: CaipPlatform) -> None:
    backend.service.end = shut_down()
    with pytest.raises(CalibanError, match="was shut down"):
        platform.stop(recorded_job())
