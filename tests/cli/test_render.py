from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.cli import render
from caliban.errors import CalibanError
from caliban.records import ContainerRecord, JobDetails, JobExit, JobRecord, JobStatus, JsonObject, Outcome
from tests.builders import CPU_SPEC, CREATED, SHORT_IMAGE, a_group, a_job, an_experiment

HOME = Path("/home/totoro")
CAIP_IMAGE = "gcr.io/totoro-project/cffd1475aaca:latest"


def caip_job(id: int, status: JobStatus, name: str, *, second: int = 40) -> JobRecord:
    job = replace(a_job(id, status), platform="CAIP", details=JobDetails(display_name=name))
    return replace(job, container=CAIP_IMAGE, created=CREATED.replace(second=second))


def job_with(details: JobDetails, status: JobStatus = JobStatus.FAILED, *, platform: str = "LOCAL") -> JobRecord:
    return replace(a_job(70, status), platform=platform, details=details)


def test_the_tree_is_the_document_s_word_for_word() -> None:
    good = caip_job(69, JobStatus.SUCCEEDED, "caliban_totoro_20200529_105340_2", second=41)
    bad = caip_job(68, JobStatus.FAILED, "caliban_totoro_20200529_105338_1", second=40)
    group = a_group(an_experiment(37, good, kwargs={"sleep": 2}), an_experiment(38, bad, kwargs={"sleep": 1}))
    name = "container: gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529"
    assert list(render.group_lines(group, HOME)) == [
        "xgroup resubmit_test:",
        "docker config 1: job_mode: CPU, build url: ~/sw/cluster/caliban/tmp/cpu, extra dirs: None",
        "  experiment id 37: cpu.py --foo 3 --sleep 2",
        f"    job 69       SUCCEEDED     CAIP 2020-05-29 10:53:41 {name}_105340_2",
        "  experiment id 38: cpu.py --foo 3 --sleep 1",
        f"    job 68       FAILED        CAIP 2020-05-29 10:53:40 {name}_105338_1",
    ]


def test_a_digest_is_abbreviated() -> None:
    job = replace(a_job(), container=f"us-docker.pkg.dev/p/lab/0123456789ab@sha256:{'0123456789abcdef' * 4}")
    assert render.job_line(job).endswith(" us-docker.pkg.dev/p/lab/0123456789ab@sha256:0123456789ab")


def test_the_id_of_a_local_image_is_abbreviated() -> None:
    job = replace(a_job(), container=f"sha256:{'0123456789abcdef' * 4}")
    assert render.job_line(job).endswith(" container: sha256:0123456789ab")


@pytest.mark.parametrize("image", [CAIP_IMAGE, "sha256:abc", f"sha256:{'g' * 64}", f"lab:{'a' * 64}"])
def test_other_image_references_are_shown_in_full(image: str) -> None:
    assert render.job_line(replace(a_job(), container=image)).endswith(f" {image}")


def test_on_a_narrow_terminal_container_and_name_make_room_for_the_reason() -> None:
    job = job_with(JobDetails(display_name="n", exit=JobExit(1)))
    line = "job 70       FAILED      LOCAL 2020-05-29 10:53:40 ... (exit code 1)"
    assert render.job_line(job, 80) == line.replace("FAILED  ", "FAILED   ")
    assert render.job_line(job, 200) == render.job_line(job)


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("platform", ["LOCAL", "CAIP", "GKE"])
@pytest.mark.parametrize("id", [1, 68, 99_999_999])
def test_the_columns_of_job_lines_are_aligned(id: int, status: JobStatus, platform: str) -> None:
    line = render.job_line(replace(a_job(id, status), platform=platform))
    assert line.index(f" {CREATED:%Y-%m-%d}") == len("job 68       FAILED        CAIP")


def test_an_id_that_is_too_wide_shifts_the_rest_of_the_line() -> None:
    line = render.job_line(a_job(1_234_567_890))
    assert line == f"job 1234567890 FAILED        TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE}"


def test_a_job_without_a_name_has_no_empty_name() -> None:
    assert "name:" not in render.job_line(job_with(JobDetails(exit=JobExit(code=1))))


@pytest.mark.parametrize("platform", ["LOCAL", "CAIP", "VERTEX", "GKE", "KUBERNETES", "SOMEWHERE"])
@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        (JobStatus.FAILED, JobDetails(exit=JobExit(message="out of memory")), " (out of memory)"),
        (JobStatus.FAILED, JobDetails(exit=JobExit(code=137, message="oom")), " (exit code 137 (SIGKILL): oom)"),
        (JobStatus.FAILED, JobDetails(exit=JobExit(code=1)), " (exit code 1)"),
        (JobStatus.SUBMITTED, JobDetails(pending_reason="unschedulable"), " (unschedulable)"),
        (JobStatus.SUCCEEDED, JobDetails(exit=JobExit(code=0)), ""),
        (JobStatus.RUNNING, JobDetails(), ""),
    ],
)
def test_the_reason_of_a_state_follows_in_parentheses_on_every_platform(
    status: JobStatus, details: JobDetails, reason: str, platform: str
) -> None:
    line = render.job_line(job_with(replace(details, display_name="n"), status, platform=platform))
    assert line == (
        f"job 70       {status:9s} {platform:>8s} 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: n{reason}"
    )


def test_a_reason_precedes_the_mark_of_a_state_that_could_not_be_refreshed() -> None:
    job = job_with(JobDetails(pending_reason="unschedulable"), JobStatus.SUBMITTED)
    line = render.job_line(replace(job, refresh_error="no route"))
    assert line.endswith(" (unschedulable, last known state; no route)")


def test_a_state_that_could_not_be_refreshed_is_marked() -> None:
    line = render.job_line(a_job(status=JobStatus.RUNNING, refresh_error="no route"))
    assert line.endswith(f"container: {SHORT_IMAGE} (last known state; no route)")


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            {**CPU_SPEC, "job_mode": "GPU", "extra_dirs": ["data", "lib"], "build_path": "/srv/lab"},
            "docker config 1: job_mode: GPU, build url: /srv/lab, extra dirs: data, lib",
        ),
        ({**CPU_SPEC, "extra_dirs": []}, render.container_line(ContainerRecord(1, CPU_SPEC), HOME)),
        ({"image_id": CAIP_IMAGE}, f"docker config 1: image: {CAIP_IMAGE}"),
        ({"image_id": CAIP_IMAGE, "package": CPU_SPEC["package"]}, f"docker config 1: image: {CAIP_IMAGE}"),
        ({}, "docker config 1: job_mode: None, build url: None, extra dirs: None"),
        ({"extra_dirs": 3}, "docker config 1: job_mode: None, build url: None, extra dirs: None"),
    ],
)
def test_a_container_spec_is_one_line(spec: JsonObject, line: str) -> None:
    assert render.container_line(ContainerRecord(1, spec), HOME) == line


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/totoro/sw/cpu", "~/sw/cpu"),
        ("/home/totoro", "~"),
        ("/home/totoro2/cpu", "/home/totoro2/cpu"),
        ("/srv/cpu", "/srv/cpu"),
        ("cpu", "cpu"),
    ],
)
def test_the_home_directory_is_abbreviated(path: str, shown: str) -> None:
    assert render.short_path(path, HOME) == shown


def test_an_experiment_of_an_image_shows_the_image_instead_of_a_script() -> None:
    experiment = an_experiment(container=ContainerRecord(2, {"image_id": CAIP_IMAGE}))
    assert render.command_line(experiment) == f"{CAIP_IMAGE} --foo 3 --sleep 1"


def test_arguments_are_quoted_for_a_shell() -> None:
    experiment = an_experiment(args=("it's", "", "$HOME"), kwargs={"name": "a b"})
    assert render.command_line(experiment) == """cpu.py 'it'"'"'s' '' '$HOME' --name 'a b'"""


@given(st.lists(st.text(), max_size=5))
def test_a_shell_parses_the_command_line_back(args: list[str]) -> None:
    line = render.command_line(an_experiment(args=args, kwargs={}))
    assert shlex.split(line) == ["cpu.py", *args]


def test_an_experiment_without_a_job_was_never_run() -> None:
    assert list(render.group_lines(a_group(an_experiment(38)), HOME))[-1] == "    never run"


def test_a_group_without_experiments_is_one_line() -> None:
    assert list(render.group_lines(a_group(name="empty"), HOME)) == ["xgroup empty:"]


def test_all_attempts_of_an_experiment_are_listed_oldest_first() -> None:
    group = a_group(an_experiment(1, a_job(2), a_job(5)))
    jobs = [line.split()[1] for line in render.group_lines(group, HOME) if line.startswith("    job")]
    assert jobs == ["2", "5"]


def test_experiments_are_listed_below_their_docker_config_ordered_by_id() -> None:
    one, two = ContainerRecord(1, CPU_SPEC), ContainerRecord(2, {"image_id": CAIP_IMAGE})
    group = a_group(an_experiment(1, container=two), an_experiment(2, container=one), an_experiment(3, container=two))
    heads = [line.split(":")[0].strip() for line in render.group_lines(group, HOME) if "never run" not in line]
    assert heads == [
        "xgroup resubmit_test",
        "docker config 1",
        "experiment id 2",
        "docker config 2",
        "experiment id 1",
        "experiment id 3",
    ]


def test_an_error_has_message_cause_and_hint() -> None:
    error = CalibanError("no-bread", "there is no toast", cause="no bread\nno flour", hint="go to the baker")
    assert render.error_lines(error) == [
        "error: there is no toast [no-bread]",
        "  cause: no bread",
        "    no flour",
        "  hint: go to the baker",
    ]


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_error_without_cause_and_hint_is_one_line(nothing: str | None) -> None:
    assert render.error_lines(CalibanError("x", "no", cause=nothing, hint=nothing)) == ["error: no [x]"]


def test_the_same_error_of_several_jobs_is_reported_once() -> None:
    outcomes = [Outcome(an_experiment(number), None, CalibanError("x", "no room")) for number in (1, 2, 3)]
    assert list(render.failure_lines(outcomes)) == [
        "error: no room [x]",
        "  in: cpu.py --foo 3 --sleep 1",
        "      and 2 more jobs",
    ]


def test_different_errors_are_all_reported() -> None:
    outcomes = [Outcome(an_experiment(), None, CalibanError("x", message)) for message in ("no room", "no bread")]
    assert [line for line in render.failure_lines(outcomes) if "error" in line] == [
        "error: no room [x]",
        "error: no bread [x]",
    ]


def test_good_outcomes_have_no_failure_lines() -> None:
    assert not list(render.failure_lines([Outcome(an_experiment(), a_job(status=JobStatus.SUCCEEDED))]))


def test_a_job_that_was_not_recorded_is_not_listed() -> None:
    assert not list(render.outcome_lines([Outcome(an_experiment(), None)]))


def test_jobs_are_counted_by_state() -> None:
    outcomes = [Outcome(an_experiment(), a_job(status=JobStatus.STOPPED)), Outcome(an_experiment(), None)]
    assert render.count_line(outcomes) == "2 jobs: 1 stopped, 1 not submitted"


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [
        (JobStatus.FAILED, 1, " (exit code 1)"),
        (JobStatus.FAILED, None, ""),
        (JobStatus.SUCCEEDED, 0, ""),
        (JobStatus.STOPPED, 143, ""),
    ],
)
def test_only_a_failed_job_has_an_exit_code(status: JobStatus, code: int | None, shown: str) -> None:
    job = job_with(JobDetails(exit=JobExit(code=code)), status)
    assert render.job_line(job) == render.job_line(job_with(JobDetails(), status)) + shown
