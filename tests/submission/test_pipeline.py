"""Images first, then jobs: how one failure affects the other jobs of a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from caliban.attempts import FirstAttempt
from caliban.errors import ImageError, PlatformError
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.registry import Platforms
from caliban.records import ExperimentRecord, ImageRef, JsonObject
from caliban.store.database import Store
from caliban.submission.images import Images
from caliban.submission.pipeline import ReadyJob, submit_jobs
from caliban.submission.preflight import Route
from caliban.submission.submit import Submitter
from tests.builders import BUILD, IMAGE, OTHER_IMAGE, add_group, submissions
from tests.fake_platform import Push
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeEngine, RecordingReporter

OTHER_BUILD = replace(BUILD, build_path=Path("/srv/gpu"))
FAILED = ImageError("build-step-failed", "step 3 failed")


@dataclass
class Bench:
    """A group of three experiments without a job, and what submits them."""

    platforms: Platforms
    submitter: Submitter
    store: Store
    experiments: tuple[ExperimentRecord, ...]

    def job(self, number: int, source: BuildSpec | ImageSpec = BUILD, zone: str = "zone-a") -> ReadyJob:
        """Return the job of the experiment with that index."""
        platform, destination = self.platforms.get("TEST"), FakeDestination(zone)
        registry = platform.image_registry(source.config, destination) if isinstance(source, BuildSpec) else None
        experiment = self.experiments[number]
        return ReadyJob(
            experiment,
            source,
            Route(platform, destination, registry),
            lambda image: {"image": image, "arguments": list(experiment.arguments)},
            FirstAttempt(),
        )

    def submit(self, *jobs: ReadyJob) -> list[tuple[int, str | None]]:
        """Return the experiment of each outcome, and the id of its error."""
        images = Images(self.platforms.context, BuildUser(1000, 1000, "totoro"))
        outcomes = submit_jobs(jobs, images, self.submitter)
        return [(outcome.experiment.id, outcome.error.id if outcome.error else None) for outcome in outcomes]


@pytest.fixture
def bench(store: Store, platforms: Platforms, reporter: RecordingReporter) -> Bench:
    group = add_group(store, None, None, None)
    return Bench(platforms, Submitter(store, platforms, reporter, "totoro", parallel=1), store, group.experiments)


def images_submitted(service: FakeService) -> list[object]:
    specs: Sequence[object] = service.arguments_of("submit")
    return [spec["image"] for spec in specs if isinstance(spec, dict)]


def test_jobs_are_submitted_with_their_arguments_and_the_pushed_image(
    bench: Bench, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept, remote.accept)
    assert bench.submit(bench.job(0), bench.job(1)) == [(1, None), (2, None)]
    image = "registry.example.com/zone-a/abababababab:latest"
    assert remote.arguments_of("submit") == [
        {"image": image, "arguments": ["--foo", "3", "--sleep", "0"]},
        {"image": image, "arguments": ["--foo", "3", "--sleep", "1"]},
    ]


def test_a_submission_has_the_destination_of_its_route(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept)
    bench.submit(bench.job(0, ImageSpec("lab:1"), "zone-a"), bench.job(1, ImageSpec("lab:1"), "zone-b"))
    assert [row.destination for row in submissions(bench.store)] == [{"zone": "zone-a"}, {"zone": "zone-b"}]


def test_every_image_is_built_and_pushed_before_the_first_job_is_submitted(
    bench: Bench, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    remote.expect("push", *[Push.accept] * 3)
    remote.expect("submit", *[remote.accept] * 3)
    bench.submit(bench.job(0), bench.job(1, zone="zone-b"), bench.job(2, OTHER_BUILD))
    assert [method for method, _ in remote.calls] == ["push"] * 3 + ["submit"] * 3


def test_every_image_is_built_before_the_first_is_pushed(
    bench: Bench, remote: FakeService, fake_engine: FakeEngine
) -> None:
    built: list[int] = []

    def accept(push: Push) -> ImageRef:
        built.append(len(fake_engine.built))
        return push.accept()

    fake_engine.expect(IMAGE, OTHER_IMAGE)
    remote.expect("push", accept, accept)
    remote.expect("submit", remote.accept, remote.accept)
    bench.submit(bench.job(0), bench.job(1, OTHER_BUILD))
    assert built == [2, 2]


def test_a_failed_build_is_reported_first_and_the_other_jobs_are_submitted(
    bench: Bench, service: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(OTHER_IMAGE, FAILED)
    service.expect("submit", service.accept)
    outcomes = bench.submit(bench.job(0, OTHER_BUILD), bench.job(1), bench.job(2))
    assert outcomes == [(2, "build-step-failed"), (3, "build-step-failed"), (1, None)]
    assert images_submitted(service) == [OTHER_IMAGE]


def test_a_failed_push_is_reported_for_each_job_and_tried_once(
    bench: Bench, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse)
    assert bench.submit(bench.job(0), bench.job(1)) == [(1, "fake-registry-full"), (2, "fake-registry-full")]


def test_a_job_without_its_image_is_not_journaled(bench: Bench, remote: FakeService, fake_engine: FakeEngine) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse)
    bench.submit(bench.job(0), bench.job(1))
    assert submissions(bench.store) == []


def test_a_failed_push_to_one_registry_does_not_prevent_jobs_with_another(
    bench: Bench, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse, Push.accept)
    remote.expect("submit", remote.accept)
    outcomes = bench.submit(bench.job(0), bench.job(1, zone="zone-b"))
    assert outcomes == [(1, "fake-registry-full"), (2, None)]


def test_a_spec_that_cannot_be_made_does_not_prevent_other_jobs(bench: Bench, service: FakeService) -> None:
    def fail(image: ImageRef) -> JsonObject:
        raise PlatformError("malformed-job-spec", "cannot re-run the recorded job")

    service.expect("submit", service.accept)
    jobs = [bench.job(0, ImageSpec("lab:1")), replace(bench.job(1, ImageSpec("lab:1")), make_spec=fail)]
    assert bench.submit(*jobs) == [(2, "malformed-job-spec"), (1, None)]


def test_jobs_that_need_no_image_use_no_engine(bench: Bench, imageless: FakeService) -> None:
    imageless.expect("submit", imageless.accept)
    assert bench.submit(bench.job(0)) == [(1, None)]
    assert images_submitted(imageless) == ["/srv/cpu"]


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udcff"])
@pytest.mark.parametrize("where", ["arguments", "key"])
def test_text_that_no_service_accepts_is_an_error_of_its_job_and_not_journaled(
    text: str, where: str, bench: Bench, service: FakeService
) -> None:
    odd = {"arguments": [text]} if where == "arguments" else {"arguments": [], "labels": {text: "x"}}
    bad = replace(bench.job(0, ImageSpec("lab:1")), make_spec=lambda image: {"image": image, **odd})
    service.expect("submit", service.accept)
    assert bench.submit(bad, bench.job(1, ImageSpec("lab:1"))) == [(1, "malformed-text"), (2, None)]
    assert [row.experiment_id for row in submissions(bench.store)] == [2]


@pytest.mark.parametrize("text", ["naïve", "日本語", "\U0001f600", "a\tb\n"])
def test_any_other_text_is_submitted(text: str, bench: Bench, service: FakeService) -> None:
    job = replace(bench.job(0, ImageSpec("lab:1")), make_spec=lambda image: {"image": image, "arguments": [text]})
    service.expect("submit", service.accept)
    assert bench.submit(job) == [(1, None)]


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), RecursionError()], ids=lambda each: type(each).__name__
)
def test_a_spec_that_cannot_be_made_in_an_unforeseen_way_affects_only_its_job(
    error: Exception, bench: Bench, service: FakeService
) -> None:
    def fail(image: ImageRef) -> JsonObject:
        raise error

    bad = replace(bench.job(0, ImageSpec("lab:1")), make_spec=fail)
    service.expect("submit", service.accept)
    assert bench.submit(bad, bench.job(1, ImageSpec("lab:1"))) == [(1, "internal-error"), (2, None)]
