"""Which submitting command is the same as an earlier one, and continues what that left unfinished."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caliban.platforms.docker.details import DockerDestination
from caliban.store.journal import Journal, NewSubmission, new_token
from caliban.submission.batches import TypedCommand, unfinished_batch
from tests.fakes import FakeClock

from .test_submit import Bench, bench, sigterm_handler_of_main

__all__ = ["bench", "sigterm_handler_of_main"]

ENGINE = DockerDestination("a1b2-engine", "catbus")
TYPED = TypedCommand("totoro", None, {"image_id": "lab:1"}, [((), {"lr": 1}), ((), {"lr": 2})], "LOCAL", ENGINE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ENGINE, DockerDestination("a1b2-engine", "renamed")),
        (DockerDestination("catbus:/data", "catbus"), DockerDestination("renamed:/data", "renamed")),
    ],
    ids=["docker", "podman"],
)
def test_a_command_is_the_same_after_the_machine_of_the_engine_was_renamed(
    before: DockerDestination, after: DockerDestination
) -> None:
    assert replace(TYPED, destination=before).key == replace(TYPED, destination=after).key


@pytest.mark.parametrize(
    "other",
    [
        DockerDestination("another", "catbus"),
        DockerDestination(None, "catbus"),
        DockerDestination(None, "nekobasu"),
        DockerDestination(),
    ],
)
def test_a_command_for_another_engine_is_another_one(other: DockerDestination) -> None:
    assert replace(TYPED, destination=other).key != TYPED.key


def test_engines_without_an_id_are_told_apart_by_their_names() -> None:
    keys = {replace(TYPED, destination=DockerDestination(None, name)).key for name in ("catbus", "nekobasu")}
    assert len(keys) == 2


def test_the_order_of_experiments_makes_no_other_command() -> None:
    assert replace(TYPED, flag_sets=tuple(reversed(TYPED.flag_sets))).key == TYPED.key


def test_a_command_of_a_platform_that_is_not_installed_has_a_key() -> None:
    assert replace(TYPED, platform="GONE").key != TYPED.key


@pytest.mark.parametrize("key", [TYPED.key, TYPED.earlier_key], ids=["without name", "with name"])
def test_a_batch_that_an_earlier_build_left_unfinished_is_continued(key: str, bench: Bench) -> None:
    """It recorded the engine with its name."""
    attempt = bench.attempts[0]
    entry = NewSubmission(
        attempt.experiment.id, "TEST", attempt.spec, attempt.destination, "fake", new_token(), attempt.kind
    )
    Journal(bench.store, FakeClock()).open_batch([entry], user="totoro", command=key)
    assert unfinished_batch(bench.store, TYPED, FakeClock()) is not None
