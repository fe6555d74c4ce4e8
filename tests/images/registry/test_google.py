"""A registry of Google's is asked before an image is built; a stand-in answers in its words."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.push import Login, check_place
from tests.images.helpers import RecordingReporter

from .pushing import failure
from .registries import PASSWORD, USER, Answer, ArtifactRules, Front, Request, error, front

PLACE = "us-central1-docker.pkg.dev/totoro-project/lab"
LOGIN = Login(USER, PASSWORD)


@pytest.fixture
def rules() -> ArtifactRules:
    return ArtifactRules()


@pytest.fixture
def google(rules: ArtifactRules, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """What answers under the names of Google's registries."""
    with front("", rules) as server:
        rules.address = server.address

        def here(image: str) -> str:
            name, _, tag = image.partition("/")[2].rpartition(":")
            return f"http://{server.address}/v2/{name}/manifests/{tag}"

        monkeypatch.setattr("caliban.images.registry.api.manifest_url", here)
        yield server


def refusal(place: str = PLACE, login: Login | None = LOGIN) -> ImageError:
    with pytest.raises(ImageError) as caught:
        check_place(place, RecordingReporter(), login=login)
    return caught.value


def test_a_place_that_takes_images_passes(google: Front, reporter: RecordingReporter) -> None:
    check_place(PLACE, reporter, login=LOGIN)
    assert (reporter.said, reporter.warned) == ([], [])


def test_asking_writes_nothing_and_costs_three_requests(google: Front, reporter: RecordingReporter) -> None:
    check_place(PLACE, reporter, login=LOGIN)
    assert [(request.method, urlsplit(request.path).path) for request in google.requests] == [
        ("GET", "/v2/totoro-project/lab/caliban/manifests/latest"),
        ("GET", "/v2/token"),
        ("GET", "/v2/totoro-project/lab/caliban/manifests/latest"),
    ]


def test_leave_to_push_is_asked_for(google: Front, rules: ArtifactRules, reporter: RecordingReporter) -> None:
    check_place(PLACE, reporter, login=LOGIN)
    [asked] = rules.asked
    assert asked.form == {"service": [google.address], "scope": ["repository:totoro-project/lab/caliban:pull,push"]}


def test_a_missing_repository_is_told(google: Front, rules: ArtifactRules) -> None:
    rules.is_there = False
    told = refusal()
    assert (told.id, told.cause) == ("repository-missing", 'name unknown: Repository "lab" not found')


def test_a_missing_repository_of_gcr_io_is_left_to_the_push_that_may_make_it(
    google: Front, rules: ArtifactRules, reporter: RecordingReporter
) -> None:
    rules.repository, rules.is_there = "totoro-project/gcr.io", False
    check_place("gcr.io/totoro-project", reporter, login=LOGIN)


def test_an_account_that_may_not_push_is_told(google: Front, rules: ArtifactRules) -> None:
    rules.may_push = False
    told = refusal()
    assert (told.id, told.cause) == ("push-refused", f"denied: {rules.denial('uploadArtifacts')}")


def test_an_account_that_may_push_but_not_read_passes(
    google: Front, rules: ArtifactRules, reporter: RecordingReporter
) -> None:
    rules.may_read = False
    check_place(PLACE, reporter, login=LOGIN)


def test_an_api_that_is_not_enabled_is_told(google: Front, rules: ArtifactRules) -> None:
    rules.is_enabled = False
    assert refusal().id == "registry-api-disabled"


def test_a_login_that_is_not_taken_is_told_without_its_password(google: Front) -> None:
    told = refusal(login=Login(USER, "another-secret"))
    assert (told.id, told.cause) == ("push-refused", "unauthorized: authentication failed")


def test_a_registry_that_is_silent_is_left_to_the_push(
    reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.images.registry.api.manifest_url", lambda image: "http://localhost:1/v2/a")
    check_place(PLACE, reporter, login=LOGIN)
    assert reporter.said == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "NAME_UNKNOWN", 'Repository "lab" not found'),
        (403, "DENIED", ArtifactRules.disabled),
        (403, "DENIED", "gcr.io repo does not exist."),
    ],
)
def test_the_engine_passes_on_google_s_words(
    engine: Engine, registry: str, image: str, status: int, code: str, message: str
) -> None:
    """Before them, engines say the code in words of their own, or only that it is an error."""

    def no_uploads(request: Request) -> Answer | None:
        return Answer(status, error(code, message)) if request.method == "POST" else None

    with front(registry, no_uploads) as strict:
        assert (failure(engine, image, strict.address).cause or "").endswith(f": {message}")
