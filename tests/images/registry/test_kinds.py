"""What users of each kind of registry are told: how to log in, what has to exist, and how names look."""

from __future__ import annotations

import pytest

from caliban.errors import ImageError
from caliban.images.registry.access import LoginState, Refusal, refusal
from caliban.images.registry.errors import push_failure
from caliban.images.registry.kinds import kind_of, name_problem
from caliban.images.registry.names import Place
from caliban.images.registry.push import Registry
from tests.fakes import RecordingReporter

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
HARBOR = 'Bearer realm="https://harbor.example.com/service/token",service="harbor-registry"'
GITLAB = 'Bearer realm="https://gitlab.example.com/jwt/auth",service="container_registry"'
QUAY = 'Bearer realm="https://quay.example.com/v2/auth",service="quay.example.com"'


@pytest.mark.parametrize(
    ("host", "text", "name"),
    [
        (ECR, "", "Amazon ECR"),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "", "Amazon ECR"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "", "Amazon ECR"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "", "Amazon ECR"),
        ("public.ecr.aws", "", "Amazon ECR Public"),
        ("ghcr.io", "", "GitHub's registry"),
        ("docker.io", "", "Docker Hub"),
        ("index.docker.io", "", "Docker Hub"),
        ("registry.gitlab.com", "", "GitLab"),
        ("quay.io", "", "Quay"),
        ("lab.azurecr.io", "", "Azure Container Registry"),
        ("registry.example.com", HARBOR, "Harbor"),
        ("registry.example.com:8443", GITLAB, "GitLab"),
        ("registry.example.com", QUAY, "Quay"),
        (
            "mirror.example.com",
            'Basic realm="https://1.dkr.ecr.x.amazonaws.com/",service="ecr.amazonaws.com"',
            "Amazon ECR",
        ),
        ("mirror.example.com", 'Bearer realm="https://ghcr.io/token",service="ghcr.io"', "GitHub's registry"),
        ("mirror.example.com", "denied: permission_denied: write_package", "GitHub's registry"),
        ("registry.example.com", "unauthorized: project lab not found: project lab not found", "Harbor"),
        ("registry.example.com", "denied: requested access to the resource is denied", ""),
        ("registry.example.com", "", ""),
        ("registry.example.com", 'Basic realm="Registry"', ""),
        ("ghcr.io.example.com", "", ""),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", "", ""),
    ],
)
def test_a_registry_is_recognized_by_its_host_by_how_it_asks_for_a_login_or_by_its_messages(
    host: str, text: str, name: str
) -> None:
    assert kind_of(host, text).name == name


@pytest.mark.parametrize(
    ("name", "is_repository", "expected"),
    [
        ("docker.io", False, "docker.io/USER_OR_ORGANIZATION"),
        ("docker.io/totoro/digits", False, "docker.io/USER_OR_ORGANIZATION"),
        ("docker.io/totoro", False, None),
        ("docker.io/digits", True, "docker.io/USER_OR_ORGANIZATION/NAME"),
        ("docker.io/totoro/digits", True, None),
        ("docker.io/totoro/digits/cpu", True, "docker.io/USER_OR_ORGANIZATION/NAME"),
        ("ghcr.io", False, "ghcr.io/OWNER"),
        ("ghcr.io/totoro", True, "ghcr.io/OWNER/NAME"),
        ("ghcr.io/totoro/digits/cpu", True, None),
        ("registry.gitlab.com/totoro", False, "registry.gitlab.com/GROUP/PROJECT"),
        ("registry.gitlab.com/totoro/digits", True, None),
        ("quay.io", False, "quay.io/NAMESPACE"),
        ("quay.io/totoro", True, "quay.io/NAMESPACE/NAME"),
        ("public.ecr.aws/a1b2", True, "public.ecr.aws/ALIAS/NAME"),
        (ECR, False, None),
        (f"{ECR}/digits", True, None),
        ("hub.docker.com/totoro", False, "docker.io/totoro"),
        ("github.com/totoro", False, "ghcr.io/totoro"),
        ("docker.pkg.github.com/totoro/digits", True, "ghcr.io/totoro/digits"),
        ("gitlab.com/totoro/digits", False, "registry.gitlab.com/totoro/digits"),
        ("localhost:5000", False, None),
        ("registry.example.com/digits", True, None),
    ],
)
def test_a_name_that_a_registry_never_accepts_is_found_before_a_build(
    name: str, is_repository: bool, expected: str | None
) -> None:
    assert name_problem(Place(name, is_repository)) == expected


def failure(words: str, name: str, *, is_repository: bool = True, user: str | None = "totoro") -> ImageError:
    """Return the error of a push to a registry whose kind its host tells."""
    registry = Registry(name, RecordingReporter(), is_repository=is_repository)
    state = LoginState(registry.host, user, registry.login_hint(words))
    reference = registry.place.reference("sha256:" + "ab" * 32)
    return registry.explain(words) or push_failure(
        words, reference, registry.denied_hint(words), state, kind_of(registry.host)
    )


NO_ECR_REPOSITORY = "name unknown: The repository with name '{}' does not exist in the registry with id '123456789012'"
"""Source: actions/starter-workflows#2647."""


def test_a_missing_repository_of_amazon_ecr_is_reported_with_the_command_that_creates_it() -> None:
    error = failure(NO_ECR_REPOSITORY.format("lab/digits"), f"{ECR}/lab/digits")
    assert (error.id, error.message, error.hint) == (
        "repository-missing",
        "cannot push images: Amazon ECR has no repository lab/digits",
        "run: aws ecr create-repository --repository-name lab/digits --region eu-west-1",
    )


def test_a_repository_for_each_image_is_not_created_by_amazon_ecr() -> None:
    error = failure(NO_ECR_REPOSITORY.format("lab/abababababab"), f"{ECR}/lab", is_repository=False)
    assert (error.id, error.message, error.hint) == (
        "repository-missing",
        "cannot push images: Amazon ECR does not create a repository for each image",
        f'set "repository": "{ECR}/NAME" instead of "registry" in .calibanconfig.json, and run: aws ecr '
        "create-repository --repository-name NAME --region eu-west-1",
    )


def test_a_public_repository_of_amazon_ecr_has_a_command_of_its_own() -> None:
    error = failure(NO_ECR_REPOSITORY.format("a1b2/digits"), "public.ecr.aws/a1b2/digits")
    assert error.hint == "run: aws ecr-public create-repository --repository-name digits --region us-east-1"


@pytest.mark.parametrize(
    "words",
    [
        "denied: Your authorization token has expired. Reauthenticate and try again.",  # aws/aws-cli#6580
        "denied: Your Authorization Token has expired. Please run 'aws ecr get-login' to fetch a new one.",
        "unauthorized: personal access token is expired",  # auth.docker.io
        "unauthorized: token is expired by 5m0s",
        'error from registry: the token "x" expired',
        "unauthorized: expired token",
        "ExpiredTokenException: The security token included in the request is expired",
    ],
)
def test_an_expired_login_is_called_that_however_it_is_said(words: str) -> None:
    assert refusal(words, "totoro") is refusal(words, None) is Refusal.EXPIRED


@pytest.mark.parametrize(
    "words",
    [
        "unauthorized: HTTP Basic: Access denied. If a password was provided for Git authentication, the password was "
        "incorrect or you're required to use a token instead of a password. If a token was provided, it was either "
        "incorrect, expired, or improperly scoped.",
        "unauthorized: incorrect username or password",
        "unauthorized: unauthenticated: User cannot be authenticated with the token provided.",
        "unauthorized: Invalid Username or Password",
        "unauthorized: Could not find robot with username: totoro+ci and supplied password.",
    ],
)
def test_a_wrong_login_is_neither_expired_nor_without_permission(words: str) -> None:
    assert (refusal(words, "totoro"), refusal(words, None)) == (Refusal.REJECTED, Refusal.MISSING)


@pytest.mark.parametrize(
    "words",
    [
        "denied: requested access to the resource is denied",
        "denied: permission_denied: The token provided does not match expected scopes.",
        "401 Unauthorized: access token has insufficient scopes",
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        'failed to fetch oauth token: Post "https://registry/token": x509: certificate has expired',
    ],
)
def test_a_missing_permission_is_not_a_wrong_login(words: str) -> None:
    assert refusal(words, "totoro", is_login_rejected="scopes" in words) is Refusal.DENIED


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            f"{ECR}/digits",
            f"run: aws ecr get-login-password --region eu-west-1 | docker login --username AWS --password-stdin {ECR} "
            "(a login lasts 12 hours; the credential helper docker-credential-ecr-login renews it)",
        ),
        (
            "public.ecr.aws/a1b2/digits",
            "run: aws ecr-public get-login-password --region us-east-1 | docker login --username AWS --password-stdin "
            "public.ecr.aws (a login lasts 12 hours; the credential helper docker-credential-ecr-login renews it)",
        ),
        ("docker.io/totoro/digits", "run: docker login (with an access token, one that may read and write)"),
        (
            "ghcr.io/totoro/digits",
            "create a personal access token (classic) with the scope write:packages, then run: docker login ghcr.io "
            "--username GITHUB_USER, with the token as password",
        ),
        (
            "registry.gitlab.com/totoro/digits",
            "run: docker login registry.gitlab.com, with a personal, project or deploy token that has the scopes "
            "read_registry and write_registry",
        ),
        ("lab.azurecr.io/digits", "run: az acr login --name lab (a login lasts 3 hours)"),
    ],
)
def test_an_expired_login_has_the_command_of_the_registry_that_renews_it(name: str, hint: str) -> None:
    host = name.partition("/")[0]
    error = failure("denied: Your authorization token has expired. Reauthenticate and try again.", name)
    assert (error.id, error.hint) == ("push-refused", hint)
    assert error.message == f"cannot push the image: the login of totoro for {host} has expired"


@pytest.mark.parametrize(
    ("words", "user", "message"),
    [
        ("denied: denied", None, "no login for ghcr.io"),
        ("unauthenticated: User cannot be authenticated with the token provided.", "totoro", "ghcr.io rejected the "),
        ("denied: permission_denied: write_package", "totoro", "ghcr.io denied access to ghcr.io/lab/digits:"),
    ],
)
def test_missing_and_wrong_logins_and_permissions_differ_in_the_message(
    words: str, user: str | None, message: str
) -> None:
    error = failure(words, "ghcr.io/lab/digits", user=user)
    assert error.id == "push-refused"
    assert error.message.startswith(f"cannot push the image: {message}")


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        (
            "ghcr.io/lab/digits",
            "denied: permission_denied: The token provided does not match expected scopes.",
            "the token of the login lacks the scope write:packages: ",
        ),
        ("ghcr.io/lab/digits", "denied: permission_denied: create_package", "lab has to be the GitHub user of the "),
        ("ghcr.io/lab/digits", "denied: permission_denied: write_package", "check that lab is the GitHub user of the "),
        ("docker.io/lab/digits", "denied: requested access to the resource is denied", "run: docker login ("),
        (f"{ECR}/digits", "denied: User: arn:aws:iam::1:user/t is not authorized to perform: ecr:InitiateLayerUpload",
         "allow the AWS user or role of the login to push to digits "),
        ("registry.gitlab.com/lab/digits", "denied: access forbidden", 'check that "repository" begins with the path'),
        ("quay.io/lab/digits", "unauthorized: access to the requested resource is not authorized", "check that lab is"),
        ("lab.azurecr.io/digits", "unauthorized: authentication required", "assign the role AcrPush on the registry "),
    ],
)  # fmt: skip
def test_a_denied_push_has_the_hint_of_its_registry(name: str, words: str, hint: str) -> None:
    error = failure(words, name)
    assert error.id == "push-refused"
    assert (error.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("name", "words", "id", "part"),
    [
        ("docker.io/lab/digits", "toomanyrequests: You have reached your unauthenticated pull rate limit.",
         "registry-rate-limited", "run: docker login, as accounts have a higher limit; or wait up to 6 hours"),
        ("docker.io/lab/digits", "toomanyrequests: You have reached your pull rate limit as 'lab'",
         "registry-rate-limited", "wait up to 6 hours"),
        ("docker.io/lab/digits", "toomanyrequests: too many failed login attempts for username or IP address",
         "registry-rate-limited", "run: docker logout, then docker login"),
        (f"{ECR}/digits", "toomanyrequests: Rate exceeded", "registry-rate-limited", "wait some minutes"),
        ("registry.example.com/a", "unexpected status from POST request to https://registry.example.com/v2/a/blobs/: "
         "429 Too Many Requests", "registry-rate-limited", "wait some minutes"),
        ("registry.example.com/a", "toomanyrequests: You have reached your unauthenticated pull rate limit.",
         "registry-rate-limited", "log in to it, as accounts may have a higher limit; or wait some minutes"),
        ("registry.example.com/a", "received unexpected HTTP status: 429 Too Many Requests", "registry-rate-limited",
         "wait some minutes"),
        ("registry.example.com/a", "denied: Quota has been exceeded on namespace", "registry-full", "delete unused"),
        ("registry.example.com/a", "denied: adding 20.3 MiB of storage resource, which when updated to current usage "
         "of 300.0 GiB will exceed the configured upper limit of 300.0 GiB.", "registry-full", "delete unused images"),
        (f"{ECR}/digits", "tag invalid: The image tag 'x' already exists in the 'digits' repository and cannot be "
         "overwritten because the tag is immutable.", "push-refused", "delete that image from the registry"),
        ("registry.example.com/a", "unknown: Failed to process request due to 'a:x' configured as immutable.",
         "push-refused", "delete that image from the registry"),
    ],
)  # fmt: skip
def test_limits_quotas_and_immutable_tags_are_no_failed_connections(name: str, words: str, id: str, part: str) -> None:
    error = failure(words, name)
    assert (error.id, part in (error.hint or "")) == (id, True)


def test_a_first_push_to_a_repository_that_is_created_then_is_no_missing_login() -> None:
    error = push_failure("name unknown", "localhost:5000/a:b", "log in", LoginState("localhost:5000", None, "log in"))
    assert "no login" not in error.message
