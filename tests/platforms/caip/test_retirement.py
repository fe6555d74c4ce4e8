"""AI Platform Training is gone: how caliban knows, what it says, and what it leaves as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import ServiceRetiredError, StatusUnavailable
from caliban.platforms.caip.client import _gone
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.errors import GoogleRefusedError
from tests.platforms.caip.helpers import PROJECT, HeardReporter, job_view, submission
from tests.standins.discovery import ApiError
from tests.standins.ml_v1 import MlV1, shut_down

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
def test_an_answer_that_comes_of_the_services_end_is_known(code: int, status: str, words: str) -> None:
    found = _gone(GoogleRefusedError(code, status, "list the jobs", words))
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
def test_any_other_refusal_is_none_of_the_services_end(code: int, status: str, words: str) -> None:
    assert _gone(GoogleRefusedError(code, status, "list the jobs", words)) is None


def test_a_page_of_html_is_not_shown() -> None:
    found = _gone(GoogleRefusedError(404, "", "list the jobs", GOOGLES_404))
    assert found is not None
    assert found.cause == "HTTP 404, with a page instead of an answer"


def test_connecting_tells_the_end_in_one_call(service: MlV1, platform: CaipPlatform) -> None:
    service.end = shut_down()
    with pytest.raises(ServiceRetiredError) as caught:
        platform.connect({"project": PROJECT})
    assert caught.value.message == (
        "AI Platform Training is gone: Google shut it down on 2025-01-31, and Container Registry on 2025-03-18"
    )
    assert caught.value.cause == str(shut_down())
    assert caught.value.hint is not None
    assert "without --platform caip" in caught.value.hint
    assert service.counts == {"oauth.token": 1, "ml.projects.jobs.list": 1}


def test_who_may_not_list_jobs_may_still_submit_some(service: MlV1, platform: CaipPlatform) -> None:
    service.forbidden.add("ml.jobs.list")
    platform.connect({"project": PROJECT})


@pytest.mark.parametrize("count", [1, 2, 40])
def test_states_are_kept_with_one_remark(
    count: int, service: MlV1, platform: CaipPlatform, reporter: HeardReporter
) -> None:
    service.end = shut_down()
    found = platform.statuses([job_view(f"job_{number}", id=number) for number in range(count)])
    assert found == {number: StatusUnavailable("the service is gone") for number in range(count)}
    assert len(reporter.lines) == 1
    assert "caliban resubmit --xgroup NAME --platform vertex" in reporter.lines[0]


def test_many_jobs_are_asked_after_in_one_call(service: MlV1, platform: CaipPlatform) -> None:
    service.end = shut_down()
    platform.statuses([job_view(f"job_{number}", id=number) for number in range(40)])
    assert service.counts == {"oauth.token": 1, "ml.projects.jobs.list": 1}


def test_a_disabled_api_does_not_make_jobs_unknown(service: MlV1, platform: CaipPlatform) -> None:
    service.end = ApiError(403, NOT_USED)
    assert platform.statuses([job_view()]) == {1: StatusUnavailable("the service is gone")}


def test_an_interrupted_submission_to_it_is_no_job(service: MlV1, platform: CaipPlatform) -> None:
    service.end = shut_down()
    assert platform.find(submission()) is None


def test_a_page_in_place_of_an_answer_leaves_an_interrupted_submission_open(platform: CaipPlatform) -> None:
    gone = _gone(GoogleRefusedError(404, "", "ask after the job", GOOGLES_404))
    assert gone is not None
    platform._service.get = raising(gone)  # type: ignore[method-assign]  # the stand-in has no such page
    with pytest.raises(ServiceRetiredError):
        platform.find(submission())


def test_a_job_cannot_be_stopped_there(service: MlV1, platform: CaipPlatform) -> None:
    service.end = shut_down()
    with pytest.raises(CalibanError, match="is gone"):
        platform.stop(job_view())
