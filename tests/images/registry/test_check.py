"""What is found out about a registry before an image is built, with the answers that registries give."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caliban.errors import ImageError
from caliban.images.registry.api import has_tags
from caliban.images.registry.auth import Login
from caliban.images.registry.push import Registry
from tests.fakes import RecordingReporter

from .pushing import RegistryWithLogin
from .registries import PASSWORD, USER, Answer, Request, TokenRules, basic, error, front

LOGIN = Login(USER, PASSWORD)
ASKS_BASIC = {"WWW-Authenticate": 'Basic realm="https://registry.example.com/",service="registry.example.com"'}


def refused(rule: Callable[[Request], Answer | None], name: str = "lab", login: Login | None = LOGIN) -> ImageError:
    """Return the error of a check of a registry that answers by a rule."""
    with front("", rule) as server:
        if isinstance(rule, TokenRules | HarborRules):
            rule.address = server.address
        registry = RegistryWithLogin(f"{server.address}/{name}", RecordingReporter(), is_repository=True, given=login)
        with pytest.raises(ImageError) as caught:
            registry.check()
    assert PASSWORD not in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"
    return caught.value


class HarborRules:
    """Harbor: its token service gives tokens without access too, and the API says what is missing.

    Source: github.com/goharbor/harbor, src/server/middleware/v2auth.
    """

    address = ""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def __call__(self, request: Request) -> Answer:
        if request.path.startswith("/service/token"):
            known = request.headers.get("Authorization") in (None, basic(USER, PASSWORD))
            return Answer(200, b'{"token": "planted-token"}') if known else Answer(401, error("UNAUTHORIZED", "no"))
        if request.headers.get("Authorization") == "Bearer planted-token":
            return Answer(401, error("UNAUTHORIZED", self.answer))
        challenge = f'Bearer realm="http://{self.address}/service/token",service="harbor-registry"'
        return Answer(401, error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": challenge})


def test_a_missing_project_of_harbor_is_reported_before_the_build() -> None:
    found = refused(HarborRules("project lab not found: project lab not found"), "lab/digits")
    assert (found.id, found.message) == ("repository-missing", "cannot push images: Harbor has no project lab")
    assert (found.hint or "").startswith('create the project lab in Harbor, or correct "repository" in ')


def test_a_missing_permission_in_harbor_has_the_hint_of_harbor() -> None:
    found = refused(HarborRules("unauthorized to access repository: lab/digits, action: push"), "lab/digits")
    assert (found.id, "access denied" in found.message) == ("push-refused", True)
    assert (found.hint or "").startswith("get the role Developer or higher in the project lab of Harbor")


class GitLabRules(HarborRules):
    """GitLab, whose token service gives no token for what is not a project.

    Source: gitlab.com/gitlab-org/gitlab, app/services/auth/container_registry_authentication_service.rb.
    """

    def __call__(self, request: Request) -> Answer:
        if request.path.startswith("/jwt/auth"):
            return Answer(403, error("DENIED", self.answer))
        challenge = f'Bearer realm="http://{self.address}/jwt/auth",service="container_registry"'
        return Answer(401, error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": challenge})


def test_a_path_that_is_no_project_of_gitlab_has_the_hint_of_gitlab() -> None:
    found = refused(GitLabRules("access forbidden"), "lab")
    assert (found.id, found.message.endswith("access denied")) == ("push-refused", True)
    assert (found.hint or "").startswith('check that "repository" begins with the path of a project')


def ecr(request: Request) -> Answer:
    """Answer as Amazon ECR does with an expired login: not 401 but 403."""
    if "Authorization" not in request.headers:
        return Answer(401, b"Not Authorized", ASKS_BASIC)
    return Answer(403, error("DENIED", "Your authorization token has expired. Reauthenticate and try again."))


def test_an_expired_login_is_reported_before_the_build() -> None:
    found = refused(ecr)
    assert (found.id, found.message.rpartition(": ")[2].startswith("the login of totoro for localhost:")) == (
        "push-refused",
        True,
    )
    assert found.message.endswith(" has expired")


def test_a_missing_login_is_reported_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    assert ": no login for localhost:" in refused(ecr, login=None).message


def test_a_password_that_a_registry_rejects_is_reported_as_that() -> None:
    found = refused(lambda _: Answer(401, error("UNAUTHORIZED", "authentication required"), ASKS_BASIC))
    assert found.message.endswith(" rejected the login of totoro")


def test_a_password_that_a_token_service_rejects_is_reported_as_that() -> None:
    found = refused(TokenRules(), login=Login(USER, "another-secret"))
    assert found.message.endswith(" rejected the login of totoro")


@pytest.mark.parametrize(
    ("body", "cause", "end"),
    [
        (b'{"details": "incorrect username or password"}', "incorrect username or password", "rejected the login of "),
        (b'{"details": "access token has insufficient scopes"}', "access token has insufficient", "access denied"),
        (b'{"error": "invalid_grant", "error_description": "token expired"}', "token expired", " has expired"),
    ],
)
def test_a_token_service_that_has_errors_of_its_own_is_quoted(body: bytes, cause: str, end: str) -> None:
    rules = TokenRules()

    class Service(TokenRules):
        def __call__(self, request: Request) -> Answer | None:
            return Answer(401, body) if request.path.startswith("/token") else rules(request)

    service = Service()
    with front("", service) as server:
        rules.address = server.address
        registry = RegistryWithLogin(f"{server.address}/lab", RecordingReporter(), given=LOGIN)
        with pytest.raises(ImageError) as caught:
            registry.check()
    assert cause in (caught.value.cause or "")
    assert end in caught.value.message


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_registry_that_does_not_say_no_is_pushed_to(status: int) -> None:
    with front("", lambda _: Answer(status, error("UNKNOWN", "later"))) as server:
        Registry(f"{server.address}/lab", reporter := RecordingReporter(), is_repository=True).check()
    assert reporter.warnings == []


class Hub:
    """Docker Hub's answers, instead of requests to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, has_tags: bool) -> None:
        monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
        monkeypatch.setattr("caliban.images.registry.push.request_push_access", lambda *_, **__: "manifest unknown")
        monkeypatch.setattr("caliban.images.registry.push.has_tags", lambda *_: has_tags)


def hub_warnings(name: str, *, is_repository: bool) -> list[str]:
    Registry(name, reporter := RecordingReporter(), is_repository=is_repository).check()
    return reporter.warnings


def test_a_new_repository_of_docker_hub_may_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, has_tags=False)
    [warning] = hub_warnings("docker.io/totoro/digits", is_repository=True)
    assert warning.startswith("docker.io/totoro/digits has no images yet: if it does not exist, the push creates it")
    assert "public unless totoro changed it (https://hub.docker.com/repository-settings/default-privacy)" in warning
    assert warning.endswith("to keep the image private, create the repository as a private one before")


def test_a_repository_of_docker_hub_with_images_causes_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, has_tags=True)
    assert hub_warnings("docker.io/totoro/digits", is_repository=True) == []


def test_a_repository_for_each_image_on_docker_hub_may_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, has_tags=True)
    [warning] = hub_warnings("docker.io/totoro", is_repository=False)
    assert "each image becomes a new repository of totoro on Docker Hub" in warning
    assert '"repository": "docker.io/totoro/NAME"' in warning


NOT_THERE = "name unknown: The repository with name 'lab' does not exist in the registry with id '123456789012'"


@pytest.mark.parametrize("is_repository", [True, False])
def test_amazon_ecr_is_an_error_without_the_repository_and_a_warning_where_a_template_may_create_it(
    is_repository: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/nowhere")
    monkeypatch.setattr("caliban.images.registry.push.request_push_access", lambda *_, **__: NOT_THERE)
    name = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/lab"
    registry = Registry(name, reporter := RecordingReporter(), is_repository=is_repository)
    if is_repository:
        with pytest.raises(ImageError, match="Amazon ECR has no repository lab"):
            registry.check()
    else:
        registry.check()
        assert "repository creation template" in reporter.warnings[0]


def test_tags_are_listed_with_permission_to_pull() -> None:
    rules = TokenRules()
    with front("", lambda request: rules(request) or Answer(200, b'{"name": "lab", "tags": ["a"]}')) as server:
        rules.address = server.address
        assert has_tags(f"{server.address}/lab", LOGIN)
        assert server.lines[-1] == "GET /v2/lab/tags/list?n=1"
    [asked] = rules.asked
    assert asked.form["scope"][0].endswith(":pull")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"tags": null}', b'{"tags": []}', b"<html>"])
def test_a_repository_without_tags_is_a_new_one(body: bytes) -> None:
    with front("", lambda _: Answer(200, body)) as server:
        assert not has_tags(f"{server.address}/lab", None)
