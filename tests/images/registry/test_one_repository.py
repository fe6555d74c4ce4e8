"""All images in one repository, each as a tag: pushed by a real engine to a real registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caliban.images.docker.engine import Engine
from caliban.images.registry.push import Registry
from tests.images.helpers import RecordingReporter

from .pushing import names
from .registries import digest, front, image_ids, manifest_of


def one_repository(name: str, reporter: RecordingReporter, *, by_digest: bool = True) -> Registry:
    return Registry(name, reporter, by_digest, is_repository=True)


def test_every_image_is_a_tag_of_the_repository(
    engine: Engine, registry: str, build: Callable[[], str], reporter: RecordingReporter
) -> None:
    name = f"{registry}/lab/digits"
    for image in (build(), build()):
        pushed = one_repository(name, reporter).push(engine, image)
        assert pushed == f"{name}@{digest(manifest_of(f'{name}:{image[7:19]}'))}"
        assert image in image_ids(manifest_of(pushed))
        assert names(engine, image) == []


def test_an_image_named_by_tag_has_that_of_the_repository(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    pushed = one_repository(f"{registry}/lab/digits", reporter, by_digest=False).push(engine, image)
    assert pushed == f"{registry}/lab/digits:{image[7:19]}"


def test_the_second_push_to_the_repository_sends_nothing(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    with front(registry) as seen:
        place = one_repository(f"{seen.address}/lab/digits", reporter)
        pushed = place.push(engine, image)
        seen.requests.clear()
        assert place.push(engine, image) == pushed
        assert seen.lines == [f"GET /v2/lab/digits/manifests/{image[7:19]}"]


def test_an_image_pushed_before_the_setting_changed_is_pushed_again_by_its_new_name_only(
    engine: Engine, registry: str, image: str, reporter: RecordingReporter
) -> None:
    before = Registry(f"{registry}/lab", reporter).push(engine, image)
    after = one_repository(f"{registry}/lab/digits", reporter).push(engine, image)
    assert before != after
    assert manifest_of(before) == manifest_of(after)


@pytest.mark.parametrize("path", ["lab/digits", "digits"])
def test_a_repository_without_images_is_no_error_where_a_push_creates_it(
    registry: str, path: str, reporter: RecordingReporter
) -> None:
    one_repository(f"{registry}/{path}", reporter).check()
    assert reporter.warnings == []
