"""Real pushes by a real engine to a real registry, through a proxy where a test observes or breaks requests."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.api import find_digest
from caliban.images.registry.names import image_reference
from caliban.records import ImageRef
from tests.images.helpers import RecordingReporter

from .pushing import failure, is_manifest, names, push
from .registries import (
    Answer,
    ArtifactRules,
    HungUpError,
    Request,
    digest,
    engine_that_answers_a_push,
    error,
    front,
    image_ids,
    manifest_of,
)


def test_the_registry_has_exactly_the_image_that_was_pushed(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = push(engine, image, f"{registry}/team", reporter, login=None).by_tag
    assert name == f"{registry}/team/{image[7:19]}:latest"
    assert image in image_ids(manifest_of(name))


def test_the_digest_is_that_of_the_manifest_that_the_registry_has(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    pushed = push(engine, image, f"{registry}/team", reporter, login=None)
    assert pushed.digest == digest(manifest_of(pushed.by_tag))
    assert pushed.by_digest == f"{registry}/team/{image[7:19]}@{pushed.digest}"


def test_a_job_gets_what_was_built_although_the_tag_was_moved_to_another_image(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    first, second = build(), build()
    pushed = push(engine, first, registry, reporter, login=None)
    give_tag(engine, second, pushed.by_tag)
    assert second in image_ids(manifest_of(pushed.by_tag))
    assert first in image_ids(manifest_of(pushed.by_digest))


def test_an_engine_pulls_by_the_digest(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    image = build()
    pushed = push(engine, image, registry, reporter, login=None)
    engine.client.images.remove(image)
    assert engine.client.images.pull(pushed.by_digest).id == image


def test_a_tag_that_was_moved_to_another_image_is_moved_back(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    first, second = build(), build()
    pushed = push(engine, first, registry, reporter, login=None)
    give_tag(engine, second, pushed.by_tag)
    assert push(engine, first, registry, reporter, login=None) == pushed
    assert digest(manifest_of(pushed.by_tag)) == pushed.digest


def give_tag(engine: Engine, image: str, tag: str) -> None:
    """Push an image with a tag that another one has, as anybody may."""
    engine.client.images.get(image).tag(tag)
    engine.client.images.push(tag)
    engine.client.images.remove(tag)


def test_an_image_may_be_given_by_name(engine: Engine, registry: str, image: str, reporter: RecordingReporter) -> None:
    engine.client.images.get(image).tag("caliban-test-own", tag="1")
    before = names(engine, image)
    try:
        assert push(engine, "caliban-test-own:1", registry, reporter, login=None).by_tag == image_reference(
            registry, image
        )
        assert names(engine, image) == before
    finally:
        engine.client.images.remove("caliban-test-own:1")


def test_an_image_without_a_name_stays_in_the_engine_without_one(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, registry, reporter, login=None)
    assert names(engine, image) == []


def test_a_name_that_existed_before_is_kept(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = image_reference(registry, image)
    engine.client.images.get(image).tag(name.rpartition(":")[0], tag="latest")
    try:
        push(engine, image, registry, reporter, login=None)
        assert name in names(engine, image)
    finally:
        engine.client.images.remove(name)


def test_nothing_else_is_left_in_the_engine(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = uuid.uuid4()
    monkeypatch.setattr("caliban.images.registry.upload.uuid.uuid4", lambda: tag)
    push(engine, image, registry, reporter, login=None)
    assert not engine.image_exists(ImageRef(f"caliban-being-pushed:{tag.hex}"))


def test_the_second_push_of_an_image_sends_nothing_and_reports_it(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    with front(registry) as seen:
        pushed = push(engine, image, seen.address, RecordingReporter(), login=None)
        seen.requests.clear()
        assert push(engine, image, seen.address, reporter, login=None) == pushed
        assert seen.lines == [f"GET /v2/{image[7:19]}/manifests/latest"]
    assert (reporter.lines, reporter.titles) == ([f"{pushed.by_tag} already exists in the registry"], [])


def test_manifests_of_docker_and_of_the_oci_are_accepted(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    with front(registry) as seen:
        push(engine, image, seen.address, reporter, login=None)
        assert seen.requests[0].headers["Accept"].split(", ") == [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.index.v1+json",
        ]


def test_another_image_with_the_same_name_is_replaced(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    first, second = build(), build()
    other = manifest_of(push(engine, second, registry, reporter, login=None).by_tag)

    def other_manifest(request: Request) -> Answer | None:
        return Answer(200, other) if is_manifest(request, "GET") else None

    with front(registry, other_manifest) as confused:
        name = push(engine, first, confused.address, reporter, login=None).by_tag
    assert first in image_ids(manifest_of(name, registry))


def test_an_image_id_may_be_the_digest_of_the_manifest(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    pushed = push(engine, image, registry, reporter, login=None)
    assert find_digest(pushed.by_tag, pushed.digest, None) == pushed.digest


def test_progress_counts_every_byte_of_the_layers(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, registry, reporter, login=None)
    size = engine.client.images.get(image).attrs["Size"]
    assert (reporter.titles, reporter.done) == ([("push", size, "B")], [size])
    assert any(note.endswith(": Pushed") for note in reporter.notes)


def test_layers_that_the_registry_has_are_counted_too(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    push(engine, image, f"{registry}/first", RecordingReporter(), login=None)
    push(engine, image, f"{registry}/first", reporter, login=None)
    with front(registry, lambda request: Answer(404) if is_manifest(request, "GET") else None) as forgetful:
        push(engine, image, f"{forgetful.address}/first", reporter, login=None)
    assert any(note.endswith(": Layer already exists") for note in reporter.notes)
    assert reporter.done == [engine.client.images.get(image).attrs["Size"]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500), "500 Internal Server Error"),
        (Answer(403, error("DENIED", "no reading")), "denied: no reading"),
        (Answer(200, b"<html>"), "the answer is not a manifest"),
        (Answer(307, b"", {"Location": "http://localhost:1/"}), "307 Temporary Redirect"),
        (
            Answer(200, b"{}", {"Docker-Content-Digest": f"sha256:{'0' * 64}"}),
            f"the manifest does not match its digest sha256:{'0' * 64}",
        ),
    ],
)
def test_an_image_is_pushed_where_the_registry_cannot_be_queried(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, answer: Answer, words: str
) -> None:
    with front(registry, lambda request: answer if is_manifest(request, "GET") else None) as puzzling:
        name = push(engine, image, puzzling.address, reporter, login=None).by_tag
        host = puzzling.address
    assert image in image_ids(manifest_of(name, registry))
    assert reporter.lines == [f"cannot check whether {host} has the image, so it is pushed ({words})"]


def test_a_proxy_of_the_environment_is_not_used_for_the_loopback_interface(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = push(engine, image, registry, RecordingReporter(), login=None).by_tag
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    push(engine, image, registry, reporter, login=None)
    assert reporter.lines == [f"{name} already exists in the registry"]


def test_a_denied_push_leaves_no_name_behind(engine: Engine, registry: str, image: str) -> None:
    def read_only(request: Request) -> Answer | None:
        return None if request.method in ("GET", "HEAD") else Answer(403, error("DENIED", "you may not write here"))

    with front(registry, read_only) as strict:
        refused = failure(engine, image, strict.address)
    assert refused.id == "push-refused"
    assert (refused.cause or "").endswith(": you may not write here")
    assert names(engine, image) == []


def test_a_port_where_nothing_listens_is_a_failed_connection(engine: Engine, image: str) -> None:
    failed = failure(engine, image, "localhost:1")
    assert (failed.id, failed.message) == (
        "push-failed",
        "cannot push the image: the connection to localhost:1 failed",
    )
    assert "connection refused" in (failed.cause or "")


def test_an_unknown_host_is_a_failed_push(engine: Engine, image: str, reporter: RecordingReporter) -> None:
    with pytest.raises(ImageError) as caught:
        push(engine, image, "registry.invalid/team", reporter, login=None)
    assert caught.value.id == "push-failed"
    assert "registry.invalid" in (caught.value.cause or "")
    assert reporter.lines[0].startswith("cannot check whether registry.invalid has the image, so it is pushed (")


def test_a_name_that_cannot_be_removed_causes_a_warning(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    name = image_reference(registry, image)

    def take_it_first(request: Request) -> Answer | None:
        if is_manifest(request, "PUT"):
            engine.client.images.get(image).tag("caliban-test-own", tag="2")
            engine.client.images.remove(name.replace(registry, early.address))
        return None

    try:
        with front(registry, take_it_first) as early:
            pushed = push(engine, image, early.address, reporter, login=None).by_tag
        assert len(reporter.warnings) == 1
        assert reporter.warnings[0].startswith(f"cannot remove the tag {pushed} from the Docker Engine: ")
    finally:
        engine.client.images.remove(image, force=True)


def test_a_registry_that_disconnects_is_an_error_and_leaves_no_name_behind(
    engine: Engine, registry: str, image: str
) -> None:
    def hang_up(request: Request) -> Answer | None:
        if is_manifest(request, "PUT"):
            raise HungUpError
        return None

    with front(registry, hang_up) as dying:
        failed = failure(engine, image, dying.address)
    assert failed.id == "push-failed"
    assert "EOF" in (failed.cause or "")
    assert names(engine, image) == []


@pytest.mark.parametrize(
    ("status", "id", "words"),
    [
        (507, "registry-full", "has no space left for"),
        (500, "push-failed", "failed while receiving"),
        (429, "registry-rate-limited", "limits how often it is asked"),
    ],
)
def test_a_registry_that_fails_is_an_error_with_a_hint(
    engine: Engine, registry: str, image: str, status: int, id: str, words: str
) -> None:
    with front(registry, lambda request: Answer(status) if is_manifest(request, "PUT") else None) as broken:
        failed = failure(engine, image, broken.address)
    assert failed.id == id
    assert words in failed.message
    assert str(status) in (failed.cause or "")


def test_a_missing_image_cannot_be_pushed(engine: Engine, registry: str) -> None:
    assert failure(engine, "caliban-no-such-image:1", registry).id == "image-not-found"


EVENT = b'{"status": "Preparing", "id": "0123456789ab"}\r\n'
CUT_SHORT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(EVENT), EVENT)


def refusal(status: bytes, message: bytes) -> bytes:
    body = b'{"message": "%s"}' % message
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("answer", "id"),
    [
        (CUT_SHORT, "docker-unreachable"),
        (CUT_SHORT + b"0\r\n\r\n", "docker-unreachable"),
        (refusal(b"404 Not Found", b"tag does not exist"), "docker-refused"),
        (refusal(b"500 Internal Server Error", b"unauthorized: log in"), "push-refused"),
        (refusal(b"500 Internal Server Error", b"connection reset by peer"), "push-failed"),
    ],
)
def test_an_error_names_the_part_that_failed(registry: str, image: str, answer: bytes, id: str) -> None:
    with engine_that_answers_a_push(answer) as address:
        engine = Engine.connect({**os.environ, "DOCKER_HOST": address})
        assert failure(engine, image, registry).id == id
        engine.close()


class Interrupting(RecordingReporter):
    """A user who presses Ctrl-C while the first layer is sent."""

    def note(self, text: str) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "NAME_UNKNOWN", 'Repository "lab" not found'),
        (403, "DENIED", ArtifactRules.disabled),
        (403, "DENIED", "gcr.io repo does not exist."),
    ],
)
def test_the_engine_passes_on_the_message_of_the_registry(
    engine: Engine, registry: str, image: str, status: int, code: str, message: str
) -> None:
    """Engines put the code before it in words of their own, or only that it is an error."""

    def no_uploads(request: Request) -> Answer | None:
        return Answer(status, error(code, message)) if request.method == "POST" else None

    with front(registry, no_uploads) as strict:
        assert (failure(engine, image, strict.address).cause or "").endswith(f": {message}")


def test_an_interrupted_push_leaves_no_name_behind(engine: Engine, registry: str, image: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        push(engine, image, registry, Interrupting(), login=None)
    assert names(engine, image) == []


def test_importing_the_module_imports_neither_docker_nor_requests() -> None:
    code = (
        "import sys, caliban.images.registry.push\n"
        "sys.exit(int(any(name.split('.')[0] in ('docker', 'requests') for name in sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
