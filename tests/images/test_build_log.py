from __future__ import annotations

import pytest

from caliban.images.docker.build_log import BuildLog
from caliban.images.instruction import Instruction

from .helpers import RecordingReporter

STEPS = [Instruction("FROM x:1", "pull the base image"), Instruction("RUN y", "do y", "check y")]


def log_of(reporter: RecordingReporter, *streams: str) -> BuildLog:
    reporter.done.append(0)
    log = BuildLog(STEPS, reporter, reporter)
    for text in streams:
        log.feed({"stream": text})
    return log


def test_output_in_pieces_is_reported_line_by_line(reporter: RecordingReporter) -> None:
    log_of(reporter, "Step 2/2 : RUN y", "\n", "a", "b\nc", "\n")
    assert reporter.lines == ["Step 2/2 : RUN y", "ab", "c"]


def test_colours_and_intermediate_images_are_not_reported(reporter: RecordingReporter) -> None:
    log_of(
        reporter, "\x1b[91mbad\n\x1b[0m", " ---> 12ab\n", " ---> Using cache\n", "Removing intermediate container 1\n"
    )
    assert reporter.lines == ["bad", " ---> Using cache"]


def test_a_long_step_is_truncated(reporter: RecordingReporter) -> None:
    log_of(reporter, "Step 2/2 : RUN " + "y" * 1000 + "\n")
    assert len(reporter.lines[0]) == 100


def test_the_cause_has_the_last_twenty_lines_of_the_failed_step(reporter: RecordingReporter) -> None:
    log = log_of(
        reporter, "Step 1/2 : FROM x:1\nfirst\nStep 2/2 : RUN y\n", *(f"line {n}\n" for n in range(30)), "last"
    )
    log_lines = log.failure("The command 'y' returned a non-zero code: 3").cause or ""
    assert log_lines.splitlines() == [f"line {n}" for n in range(10, 30)]


def test_without_an_exit_code_the_message_of_the_engine_is_the_cause(reporter: RecordingReporter) -> None:
    error = log_of(reporter, "Step 2/2 : RUN y\n").failure("OCI runtime create failed")
    assert (error.cause, error.hint) == ("OCI runtime create failed", "check y")


def test_a_full_disk_has_a_hint_of_its_own(reporter: RecordingReporter) -> None:
    error = log_of(reporter, "Step 2/2 : RUN y\n").failure("write /x: no space left on device")
    assert error.id == "disk-full"
    assert "docker system df" in (error.hint or "")


def test_a_full_disk_is_recognized_in_the_output_of_a_step(reporter: RecordingReporter) -> None:
    log = log_of(reporter, "Step 2/2 : RUN y\npip: No space left on device\n")
    assert log.failure("returned a non-zero code: 1").id == "disk-full"


def test_a_build_that_is_rejected_before_its_first_step_has_an_error_of_its_own(reporter: RecordingReporter) -> None:
    assert log_of(reporter).failure("unknown instruction").id == "build-refused"


PODMAN = 'building at STEP "RUN /bin/sh -ec y": while running runtime: exit status 3\n'


def test_the_last_lines_of_a_step_that_failed_in_podman_are_the_cause(reporter: RecordingReporter) -> None:
    """Podman's message has the instruction, which may be long, and not what it wrote."""
    log = log_of(reporter, "STEP 1/3: FROM x:1\n", "STEP 2/3: RUN y\n", "out line\n", "err line\n")
    error = log.failure(PODMAN)
    assert (error.id, error.cause, error.hint) == ("build-step-failed", "out line\nerr line", "check y")
    assert error.message == "cannot build the image: step 2 (do y) failed with exit code 3"


def test_a_step_of_podman_without_output_has_its_message_as_the_cause(reporter: RecordingReporter) -> None:
    log = log_of(reporter, "STEP 1/3: FROM x:1\n", "STEP 2/3: RUN y\n")
    assert log.failure('building at STEP "COPY a b": no such file').cause == 'building at STEP "COPY a b": no such file'


def test_the_ids_of_podman_are_not_reported(reporter: RecordingReporter) -> None:
    log_of(
        reporter,
        "STEP 1/3: FROM x:1\n",
        "Resolving %!q(<nil>) to docker.io (enforced by caller)\n",
        "--> 12ab34\n",
        "STEP 2/3: RUN y\n",
        f"--> Using cache {'12' * 32}\n",
        "COMMIT\n",
        f"{'ab' * 32}\n",
    )
    assert reporter.lines == ["STEP 1/3: FROM x:1", "STEP 2/3: RUN y", f"--> Using cache {'12' * 32}"]


def test_the_image_of_podman_is_read_from_either_of_its_events(reporter: RecordingReporter) -> None:
    log = log_of(reporter, "Successfully built 1e92ba7c8c12\n")
    assert log.image == "1e92ba7c8c12"
    log = log_of(reporter)
    log.feed({"aux": {"ID": "sha256:" + "1e" * 32}})
    assert log.image == "sha256:" + "1e" * 32


def test_the_image_is_read_from_the_output_of_an_old_engine(reporter: RecordingReporter) -> None:
    assert log_of(reporter, "Successfully built 12ab34\n").image == "12ab34"


def test_the_id_of_the_image_precedes_the_output(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"aux": {"ID": "sha256:1"}})
    log.feed({"stream": "Successfully built 12ab34\n"})
    assert log.image == "sha256:1"


def test_a_pull_is_reported_by_image_with_progress_by_layer(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"status": "Pulling from library/python", "id": "3.12-slim"})
    log.feed({"status": "Downloading", "id": "12ab", "progressDetail": {"current": 1, "total": 2}})
    log.feed({"status": "Waiting"})
    log.feed({"unknown": 1})
    assert reporter.lines == ["Pulling from library/python"]
    assert reporter.notes == ["3.12-slim: Pulling from library/python", "12ab: Downloading", "Waiting"]


BASE_IMAGE_FAILURES = [
    ("manifest for x:1 not found: manifest unknown: manifest unknown", "base image not available: x:1"),
    (
        "pull access denied for x, repository does not exist or may require 'docker login': denied",
        "base image not available: x:1",
    ),
    (
        'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host',
        "cannot reach the registry of the base image x:1",
    ),
    ('Get "https://r.io/v2/": net/http: TLS handshake timeout', "cannot reach the registry of the base image x:1"),
    ("Get https://r.io/v2/: x509: certificate signed by unknown authority", "cannot reach the registry"),
    ("received unexpected HTTP status: 503 Service Unavailable", "cannot reach the registry"),
    ("unauthorized: authentication required", "access denied to the base image x:1"),
    ("toomanyrequests: You have reached your pull rate limit", "the registry limits how often"),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", "not available for the platform"),
    ("invalid reference format", "invalid name of the base image: x:1"),
]


@pytest.mark.parametrize(("reason", "message"), BASE_IMAGE_FAILURES)
def test_the_message_about_a_base_image_says_why_it_is_not_available(
    reporter: RecordingReporter, reason: str, message: str
) -> None:
    error = log_of(reporter, "Step 1/2 : FROM x:1\n").failure(reason)
    assert error.id == "base-image-unavailable"
    assert message in error.message
    assert '"base_image" in .calibanconfig.json' in (error.hint or "")


ECR_IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/lab/base:1"


@pytest.mark.parametrize(
    ("image", "reason", "message", "hint"),
    [
        (
            "python:3.12-slim",
            "toomanyrequests: You have reached your unauthenticated pull rate limit.",
            "(rate limit of Docker Hub): python:3.12-slim",
            "run: docker login, as accounts have a higher limit; or wait up to 6 hours; or set "
            '"base_image" in .calibanconfig.json to a copy: public.ecr.aws/docker/library/python:3.12-slim',
        ),
        (
            "docker.io/library/python:3.12",
            "toomanyrequests: You have reached your pull rate limit as 'totoro'",
            "(rate limit of Docker Hub)",
            'wait up to 6 hours; or set "base_image" in .calibanconfig.json to a copy: '
            "public.ecr.aws/docker/library/python:3.12",
        ),
        (
            "pytorch/pytorch:latest",
            'failed to resolve reference "docker.io/pytorch/pytorch:latest": unexpected status from HEAD request to '
            "https://registry-1.docker.io/v2/pytorch/pytorch/manifests/latest: 429 Too Many Requests",
            "(rate limit of Docker Hub)",
            'or wait up to 6 hours; or set another "base_image" in .calibanconfig.json',
        ),
        (
            "python:3.12",
            "toomanyrequests: too many failed login attempts for username or IP address",
            "Docker Hub allows no login after too many failed ones",
            "run: docker logout",
        ),
        ("public.ecr.aws/x/y:1", "toomanyrequests: Rate exceeded", "(rate limit of Amazon ECR Public)", "wait some "),
        ("quay.io/x/y:1", "received unexpected HTTP status: 429 Too Many Requests", "(rate limit of Quay)", "wait "),
        ("r.example.com/y:1", "TOOMANYREQUESTS: slow down", "(rate limit of r.example.com)", "wait some minutes"),
        (
            ECR_IMAGE,
            "denied: Your authorization token has expired. Reauthenticate and try again.",
            f"the login for {ECR_IMAGE.partition('/')[0]} has expired",
            "run: aws ecr get-login-password --region eu-west-1 | docker login",
        ),
        (ECR_IMAGE, "no basic auth credentials", f"access denied to the base image {ECR_IMAGE}", "run: aws ecr "),
        (
            "public.ecr.aws/docker/library/python:3.12",
            "denied: Your authorization token has expired. Reauthenticate and try again.",
            "the login for public.ecr.aws has expired",
            "if the image is public: docker logout public.ecr.aws",
        ),
        (
            "python:3.12",
            "unauthorized: incorrect username or password",
            "docker.io rejected docker's login",
            "run: docker login; or, if the image is public: docker logout",
        ),
        (
            "ghcr.io/Lab/Base:A",
            "invalid reference format: repository name (Lab/Base) must be lowercase",
            "invalid name of the base image: ghcr.io/Lab/Base:A",
            "in lower case: ghcr.io/lab/base:A",
        ),
        ("ghcr.io/lab/base:1", "denied: denied", "access denied to the base image", "the scope read:packages"),
    ],
)
def test_a_limit_or_a_login_that_keeps_a_base_image_away_is_named_with_what_to_do(
    reporter: RecordingReporter, image: str, reason: str, message: str, hint: str
) -> None:
    reporter.done.append(0)
    log = BuildLog([Instruction(f"FROM {image}", "pull the base image")], reporter, reporter)
    log.feed({"stream": f"Step 1/1 : FROM {image}\n"})
    error = log.failure(reason)
    assert (error.id, message in error.message, hint in (error.hint or "")) == ("base-image-unavailable", True, True)


def test_a_private_base_image_has_the_login_to_its_registry_as_a_hint(reporter: RecordingReporter) -> None:
    steps = [Instruction("FROM registry.example.com/team/x:1", "pull the base image")]
    reporter.done.append(0)
    log = BuildLog(steps, reporter, reporter)
    log.feed({"stream": "Step 1/1 : FROM registry.example.com/team/x:1\n"})
    assert "docker login registry.example.com;" in (log.failure("unauthorized: access forbidden").hint or "")


@pytest.mark.parametrize("reason", ["failed to create rwlayer: layer does not exist", "context canceled"])
def test_another_failure_of_the_first_step_is_not_one_of_the_base_image(
    reporter: RecordingReporter, reason: str
) -> None:
    error = log_of(reporter, "Step 1/2 : FROM x:1\n").failure(reason)
    assert (error.id, error.cause) == ("build-step-failed", reason)


@pytest.mark.parametrize("reason", ["The command '/bin/sh -c y' returned a non-zero code: 3", "COPY failed: not found"])
def test_a_failed_trigger_of_the_base_image_is_not_a_missing_base_image(
    reporter: RecordingReporter, reason: str
) -> None:
    log = log_of(reporter, "Step 1/2 : FROM x:1\n", "# Executing 1 build trigger\n", "its output\n")
    error = log.failure(reason)
    assert error.id == "build-step-failed"
    assert "step 1 (ONBUILD instructions of the base image)" in error.message
    assert "its output" in (error.cause or "")


def test_a_program_that_counts_steps_does_not_change_the_number_of_the_failed_step(
    reporter: RecordingReporter,
) -> None:
    log = log_of(reporter, "Step 1/3 : FROM x:1\n", "Step 2/3 : RUN y\n", "Step 3/100 : loss 2\nStep 1/2 : compile\n")
    error = log.failure("The command 'y' returned a non-zero code: 1")
    assert "step 2 (do y)" in error.message
    assert (error.cause or "").splitlines() == ["Step 3/100 : loss 2", "Step 1/2 : compile"]


def test_the_steps_of_podman_are_counted(reporter: RecordingReporter) -> None:
    error = log_of(reporter, "STEP 1/3: FROM x:1\n", "STEP 2/3: RUN y\n", "bad\n").failure("exit status 1")
    assert "step 2 (do y)" in error.message


@pytest.mark.parametrize("reason", ["no space left on device", "write /x: disk quota exceeded"])
def test_a_full_disk_in_the_first_step_is_one(reporter: RecordingReporter, reason: str) -> None:
    assert log_of(reporter, "Step 1/2 : FROM x:1\n").failure(f"write /x: {reason}").id == "disk-full"


MISSING = [
    ("ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?", "git"),
    ("/bin/sh: 1: git: not found", "git"),
    ("bash: line 1: git: command not found", "git"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", "git"),
    ("      error: command 'gcc' failed: No such file or directory", "gcc"),
    ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", "gcc"),
    ("error: command '/usr/bin/g++' failed: No such file or directory", "g++"),
    ("  CMake Error: No CMAKE_CXX_COMPILER could be found.", "g++"),
    ("gcc: fatal error: cannot execute 'cc1plus': execvp: No such file or directory", "g++"),
    ("../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "gcc"),
    ("error: linker `cc` not found", "gcc"),
    ("/bin/sh: make: command not found", "make"),
    ("make: g++: No such file or directory", "g++"),
    ("CMake Error: CMAKE_MAKE_PROGRAM is not set.", "make"),
    ("RuntimeError: CMake must be installed to build dlib", "cmake"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "cmake"),
    ("/bin/sh: 1: pkg-config: not found", "pkg-config"),
    ("Did not find pkg-config by name 'pkg-config'", "pkg-config"),
    ("x.c:1:10: fatal error: Python.h: No such file or directory", "python3-dev"),
    ("x.c:1:10: fatal error: 'ffi.h' file not found", "libffi-dev"),
    ("x.c:1:10: fatal error: zlib.h: No such file or directory", "zlib1g-dev"),
    ("Error: pg_config executable not found.", "libpq-dev"),
    ("error: can't find Rust compiler", "cargo"),
    ("Cargo, the Rust package manager, is not installed or is not on PATH.", "cargo"),
    ("/bin/sh: 1: nvcc: not found", "CUDA toolkit"),
    ("x.cu:1:10: fatal error: cuda_runtime.h: No such file or directory", "CUDA toolkit"),
    ("x.c:1:10: fatal error: rare/thing.h: No such file or directory", "the Debian package with rare/thing.h"),
]


@pytest.mark.parametrize(("line", "package"), MISSING)
def test_a_missing_tool_has_its_package_as_a_hint(reporter: RecordingReporter, line: str, package: str) -> None:
    log = log_of(reporter, "Step 2/2 : RUN y\n", f"{line}\n", "note: this is an issue with the package\n")
    hint = log.failure("The command 'y' returned a non-zero code: 1").hint or ""
    assert package in hint
    assert ".calibanconfig.json" in hint


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: No matching distribution found for nothing",
        "FileNotFoundError: [Errno 2] No such file or directory: 'requirements/base.txt'",
        "ModuleNotFoundError: No module named 'git'",
        "no package: six: not found in the index",
    ],
)
def test_another_failure_keeps_the_hint_of_the_step(reporter: RecordingReporter, line: str) -> None:
    log = log_of(reporter, "Step 2/2 : RUN y\n", f"{line}\n")
    assert log.failure("The command 'y' returned a non-zero code: 1").hint == "check y"


def test_a_tool_that_an_earlier_step_missed_is_not_the_hint_of_a_later_one(reporter: RecordingReporter) -> None:
    log = log_of(reporter, "Step 1/2 : FROM x:1\n/bin/sh: 1: git: not found\nStep 2/2 : RUN y\nbad\n")
    assert log.failure("The command 'y' returned a non-zero code: 1").hint == "check y"


def test_passwords_in_the_output_are_hidden(reporter: RecordingReporter) -> None:
    line = "Looking in indexes: https://me:planted-secret@host/simple"
    log = log_of(reporter, "Step 2/2 : RUN y\n", f"{line}\n")
    error = log.failure("The command 'y' returned a non-zero code: 1")
    assert "planted-secret" not in f"{reporter.lines} {error.cause}"
