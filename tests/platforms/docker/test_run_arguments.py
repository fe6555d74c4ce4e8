"""The arguments of ``docker run``: parsed as docker does, and rejected or honoured before anything is built."""

from __future__ import annotations

import shlex
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.platforms.docker.run_arguments import (
    RunArgumentsError,
    UnknownFlagError,
    parse,
    parse_given,
    parse_help,
    parse_typed,
)


def created(text: str) -> list[str]:
    """Return what ``docker create`` gets of --docker_run_args."""
    return parse_given(shlex.split(text)).for_create()


def problem(text: str) -> str:
    with pytest.raises(RunArgumentsError) as caught:
        parse_given(shlex.split(text))
    assert caught.value.hint
    assert "\n" not in caught.value.problem
    return caught.value.problem


@pytest.mark.parametrize(
    "text",
    [
        "--gpus all",
        "--gpus=all",
        "--gpus '\"device=0,1\"'",
        "-e A=1 -e B",
        "-eA=1",
        "--env A=--name",
        "-e --rm",
        "-v /data:/data:ro",
        "-v=/data:/data",
        "--env-file /tmp/env",
        "--label team=vision -l a=b -lc=d",
        "--label calibans=1",
        "--label-file /tmp/labels",
        "--entrypoint '' --entrypoint=sh",
        "--restart no --restart on-failure --restart=on-failure:3",
        "--network host --net host",
        "--shm-size=8g -m 4g --cpus .5",
        "--privileged --privileged=false --init",
        "-u 1000:1000 -w / -h name",
        "--ulimit memlock=-1 --ulimit stack=67108864",
        "--stop-timeout -1",
        "-i -t",
        "--interactive --tty",
    ],
)
def test_arguments_are_passed_unchanged(text: str) -> None:
    assert created(text) == shlex.split(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--rm -e A=1", "-e A=1"),
        ("-e A=1 --rm=1", "-e A=1"),
        ("--rm=true --rm=T --rm=false --rm=0", ""),
        ("-d", ""),
        ("--detach=false --detach --detach=1", ""),
        ("-d=false", ""),
        ("-itd", "-i -t"),
        ("-dit", "-i -t"),
        ("-de A=1", "-e A=1"),
        ("-dv/a:/b", "-v/a:/b"),
        ("--detach-keys ctrl-c --sig-proxy=false", ""),
        ("-it=true", "-i -t=true"),
    ],
)
def test_flags_that_only_docker_run_has_are_not_passed_to_docker_create(text: str, expected: str) -> None:
    assert created(text) == shlex.split(expected)


@pytest.mark.parametrize(
    "text", ["--name x", "--name=x", "--name=", "--cidfile x", "--cidfile=x", "--help", "--help=true", "-i --name x"]
)
def test_flags_that_are_calibans_own_are_rejected(text: str) -> None:
    flag = next(word for word in shlex.split(text) if word.startswith("--")).partition("=")[0]
    assert problem(text).startswith(f"{flag} cannot be used: ")


@pytest.mark.parametrize(
    "text",
    [
        "--label caliban.token=x",
        "--label=caliban.token=x",
        "-l caliban.token=x",
        "-lcaliban.token=x",
        "-l=caliban.experiment=1",
        "-itlcaliban.token=x",
        "--label caliban.token",
        "--label caliban",
        "--label caliban=image",
    ],
)
def test_labels_that_are_calibans_own_are_rejected(text: str) -> None:
    assert "cannot be used: labels that start with caliban." in problem(text)


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure:x", "Always", "on-failure:3 "])
@pytest.mark.parametrize("notation", ["--restart '{}'", "--restart='{}'"])
def test_a_restart_policy_by_which_a_job_never_ends_is_rejected(policy: str, notation: str) -> None:
    assert f'--restart "{policy}" cannot be used' in problem(notation.format(policy))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", '"ubuntu" is no flag: docker would take it for the image'),
        ("-e A=1 B=2", '"B=2" is no flag: docker would take it for the image'),
        ("--rm true", '"true" is no flag: docker would take it for the image'),
        ("-", '"-" is no flag: docker would take it for the image'),
        ("--", '"--" is no flag: docker would take it for the image'),
        ("-- ubuntu", '"ubuntu" is no flag: docker would take it for the image'),
        ("''", '"" is no flag: docker would take it for the image'),
        ("-v", "-v needs a value"),
        ("-iv", "-v needs a value"),
        ("--gpus", "--gpus needs a value"),
        ("--rm=maybe", '--rm: expected true or false, got "maybe"'),
        ("--privileged=", '--privileged: expected true or false, got ""'),
    ],
)
def test_words_that_would_change_what_docker_runs_are_rejected(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize("text", ["--gpuz all", "-Z", "-name x", "--", "--=x", "---rm", "-i=", "--Name x"])
def test_an_unknown_flag_is_an_error(text: str) -> None:
    with pytest.raises(RunArgumentsError) as caught:
        parse_given(shlex.split(text))
    assert isinstance(caught.value, UnknownFlagError) or text == "--"


def test_the_flags_of_the_installed_client_are_known() -> None:
    known = parse_help("  -Z, --zone string    The zone\n      --new-switch   A switch\n")
    assert known == {"zone": True, "Z": True, "new-switch": False}
    words = ["-Z", "a", "--new-switch", "--zone=b"]
    assert parse_given(words, lambda: known).for_create() == words


def test_the_client_is_not_asked_about_flags_that_are_known() -> None:
    def ask() -> dict[str, bool]:
        raise AssertionError("asked")

    parse_given(shlex.split("-it --gpus all"), ask)


@pytest.mark.parametrize(
    ("text", "removes", "detaches", "pulls"),
    [
        ("", False, False, False),
        ("--rm -d --pull always", True, True, True),
        ("--rm=1 --detach=T --pull=always", True, True, True),
        ("--rm=false --rm", True, False, False),
        ("--rm --rm=false -d --detach=0 --pull=always --pull missing", False, False, False),
        ("-itd", False, True, False),
        ("-e --rm -e -d", False, False, False),
    ],
)
def test_the_last_of_equal_flags_counts(text: str, removes: bool, detaches: bool, pulls: bool) -> None:
    arguments = parse_typed(shlex.split(text))
    assert (arguments.removes, arguments.detaches, arguments.pulls) == (removes, detaches, pulls)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("-a stdout", "--attach"),
        ("--attach=STDERR", "--attach"),
        ("-ita stdin", "--attach"),
        ("--detach-keys ctrl-c", "--detach-keys"),
        ("--sig-proxy=false", "--sig-proxy=false"),
        ("--sig-proxy --sig-proxy=0", "--sig-proxy=false"),
    ],
)
def test_what_docker_does_with_its_terminal_is_rejected_when_it_is_typed_and_kept_in_jobs(text: str, flag: str) -> None:
    words = shlex.split(text)
    with pytest.raises(RunArgumentsError) as caught:
        parse_typed(words)
    assert caught.value.problem.startswith(f"{flag} cannot be used: ")
    assert [each.shown for each in parse_given(words).without_effect()] == [flag]


def test_flags_that_ask_for_what_caliban_does_anyway_are_accepted() -> None:
    assert parse_typed(shlex.split("--sig-proxy --sig-proxy=true --rm=false -d=false --detach=0")).for_create() == []


def test_the_image_is_the_first_word_that_is_no_flag() -> None:
    words = ["-e", "lab:1", "--init", "-v/a:/b", "lab:1", "--name", "x"]
    assert parse(words).rest == ("lab:1", "--name", "x")


@given(st.lists(st.text(st.sampled_from("-abdeilmtvrn=x./ \0é\udc80"), max_size=12), max_size=6))
def test_no_words_cause_another_error(words: list[str]) -> None:
    with suppress(RunArgumentsError):
        parse_given(words).for_create()
