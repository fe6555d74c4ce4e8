"""Which digest a job gets where a tag leads to an index of images for several platforms."""

from __future__ import annotations

import hashlib
import json

import pytest

from caliban.images.registry.api import find_digest
from caliban.images.registry.push_log import PushLog
from tests.fakes import RecordingReporter

from .registries import Answer, Request, TokenRules, error, front

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OURS, OTHERS = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
"""Digests of configurations: what engines without containerd's image store call the id of an image."""


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(configuration: str) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"digest": configuration}}).encode()


def index(media_type: str, *contents: bytes) -> bytes:
    """Return an index of manifests, with the attestation that BuildKit adds to each."""
    entries: list[object] = []
    for content in contents:
        entries.append({"mediaType": OCI_MANIFEST, "digest": digest(content), "size": len(content)})
        attached = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest(content)}
        entries.append({"mediaType": OCI_MANIFEST, "digest": "sha256:" + "ee" * 32, "annotations": attached})
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()


class Content:
    """A registry that has manifests by tag and by digest, and gives an index only to those that accept one."""

    def __init__(self, tagged: bytes, *others: bytes) -> None:
        self.by_name = {"latest": tagged} | {digest(each): each for each in (tagged, *others)}

    def __call__(self, request: Request) -> Answer:
        content = self.by_name.get(request.path.rpartition("/")[2])
        if content is None:
            return Answer(404, error("MANIFEST_UNKNOWN", "manifest unknown"))
        media_type = json.loads(content)["mediaType"]
        if media_type not in request.headers["Accept"].split(", "):
            return Answer(404, error("MANIFEST_UNKNOWN", f"{media_type} is not accepted"))
        return Answer(200, content, {"Content-Type": media_type, "Docker-Content-Digest": digest(content)})


def found(content: Content, image_id: str) -> tuple[str | None, list[str]]:
    """Return the digest, and what was requested."""
    with front("", content) as server:
        result = find_digest(f"{server.address}/lab:latest", image_id, None)
        return result, [line.removeprefix("GET /v2/lab/manifests/") for line in server.lines]


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_image_of_an_index_is_named_by_its_own_digest(media_type: str) -> None:
    ours, other = manifest(OURS), manifest(OTHERS)
    content = Content(index(media_type, other, ours), ours, other)
    assert found(content, OURS) == (digest(ours), ["latest", digest(other), digest(ours)])


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_engine_that_stores_images_in_containerd_has_the_digest_of_the_index(media_type: str) -> None:
    whole = index(media_type, manifest(OURS))
    assert found(Content(whole), digest(whole)) == (digest(whole), ["latest"])


def test_an_engine_that_stores_images_in_containerd_has_the_digest_of_a_manifest_of_the_index() -> None:
    ours = manifest(OURS)
    assert found(Content(index(OCI_INDEX, manifest(OTHERS), ours)), digest(ours)) == (digest(ours), ["latest"])


def test_an_index_without_the_image_is_another_image() -> None:
    other = manifest(OTHERS)
    assert found(Content(index(OCI_INDEX, other), other), OURS) == (None, ["latest", digest(other)])


def test_an_index_that_lists_what_is_not_there_is_another_image() -> None:
    assert found(Content(index(OCI_INDEX, manifest(OURS))), OURS)[0] is None


def test_a_manifest_that_is_not_what_its_digest_says_is_not_the_image() -> None:
    content = Content(index(OCI_INDEX, manifest(OTHERS)))
    content.by_name[digest(manifest(OTHERS))] = manifest(OURS)

    def confused(request: Request) -> Answer:
        answer = content(request)
        return Answer(answer.status, answer.body) if digest(manifest(OTHERS)) in request.path else answer

    with front("", confused) as server:
        assert find_digest(f"{server.address}/lab:latest", OURS, None) is None


def test_an_index_of_any_size_takes_a_bounded_number_of_requests() -> None:
    others = [manifest("sha256:" + f"{number:064x}") for number in range(100)]
    assert len(found(Content(index(OCI_INDEX, *others), *others), OURS)[1]) == 17


@pytest.mark.parametrize(
    "entries",
    [None, {}, [1, None, {}], [{"digest": 5}], [{"digest": "sha256:../../x"}], [{"digest": "sha512:" + "ab" * 64}]],
)
def test_an_index_of_any_shape_is_read(entries: object) -> None:
    tagged = json.dumps({"mediaType": OCI_INDEX, "manifests": entries}).encode()
    assert found(Content(tagged), OURS) == (None, ["latest"])


def test_the_images_of_an_index_are_read_with_the_login_of_the_index() -> None:
    ours = manifest(OURS)
    rules, content = TokenRules(), Content(index(OCI_INDEX, ours), ours)
    with front("", lambda request: rules(request) or content(request)) as server:
        rules.address = server.address
        from .test_check import LOGIN

        assert find_digest(f"{server.address}/lab:latest", OURS, LOGIN) == digest(ours)
        assert len(rules.asked) == 1


def test_an_engine_that_pushes_a_manifest_instead_of_its_index_reports_that_of_the_manifest() -> None:
    """Source: moby, daemon/containerd/image_push.go; the index has platforms that the engine does not have."""
    log = PushLog(0, RecordingReporter(), lambda words: pytest.fail(words))
    whole, selected = {"digest": OTHERS, "size": 1}, {"digest": OURS, "size": 1}
    log.feed({"aux": {"manifestPushedInsteadOfIndex": True, "originalIndex": whole, "selectedManifest": selected}})
    log.feed({"status": f"latest: digest: {OURS} size: 1"})
    assert log.digest == OURS
