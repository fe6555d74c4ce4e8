"""``caliban run`` on a fake platform in place of this machine's Docker Engine; ``tests/e2e`` uses a real one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from caliban.attempts import Submission
from caliban.errors import CalibanError, ImageError, UsageError
from caliban.platforms import registry
from caliban.platforms.base import MaySend
from caliban.records import JobDetails, JobRecord, JobStatus, JobUpdate, NewJob, PlatformId
from caliban.store.database import Store
from caliban.submission.submit import InterruptedSubmissionError
from tests.builders import IMAGE, add_group, latest_states, leave_open, read_group
from tests.calls import call
from tests.conftest import ForkedCaliban, MakeContext, ScreenContext
from tests.fake_platform import FakeForegroundPlatform, end
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

GROUP = ("--xgroup", "resubmit_test")


class FakeLocalPlatform(FakeForegroundPlatform):
    """Accepts job specs of local jobs."""

    id = "LOCAL"

    def job_name(self, spec: object, token: str) -> str:
        return f"fake-{token}"

    def submit(self, spec: object, submission: Submission, may_send: MaySend) -> NewJob:
        may_send()
        return cast(NewJob, self.service.answer("submit", spec, submission))


def start(spec: dict[str, object], submission: Submission) -> NewJob:
    """Return an answer for ``expect("submit", ...)``."""
    return NewJob(str(spec["container"]), JobStatus.RUNNING, JobDetails({"name": submission.name}))


def interrupt_following(job: JobRecord) -> JobUpdate:
    raise KeyboardInterrupt


@pytest.fixture
def local(foreground: FakeService, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """The service of the platform LOCAL."""
    table = cast(dict[PlatformId, registry.Entry], registry._BUILT_IN)
    entry = replace(table["LOCAL"], platform=f"{__name__}:FakeLocalPlatform")
    monkeypatch.setitem(table, "LOCAL", entry)
    return foreground


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "experiment.json").write_text('{"sleep": [2, 1]} // seconds\n')
    return cwd


CONFIG = ("--experiment_config", "experiment.json")


def test_every_experiment_is_run_and_recorded(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    local.expect("submit", start, start)
    local.expect("follow", end(JobStatus.SUCCEEDED, ret_code=0), end(JobStatus.FAILED, ret_code=1))
    assert call(context, "run", *GROUP, "--nogpu", *CONFIG, "cpu.py", "--", "--foo", "3") == 1
    group = read_group(store)
    assert [experiment.arguments for experiment in group.experiments] == [
        ("--foo", "3", "--sleep", "2"),
        ("--foo", "3", "--sleep", "1"),
    ]
    assert latest_states(store) == ["SUCCEEDED", "FAILED"]
    *_, last_job, summary, cause, _, _ = context.err.splitlines()
    assert last_job.endswith("(exit code 1)")
    assert (summary, cause) == ("2 experiments: 1 succeeded, 1 failed", "  1 code_error      exit code 1")


def test_one_image_is_built_for_all_experiments(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    local.expect("submit", start, start)
    local.expect("follow", *[end(JobStatus.SUCCEEDED)] * 2)
    assert call(context, "run", *GROUP, "--nogpu", "--no_cache", *CONFIG, "cpu.py") == 0
    assert fake_engine.no_cache == [True]


def test_the_same_experiment_again_is_another_attempt(
    store: Store, local: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    for _ in range(2):
        fake_engine.expect(IMAGE)
        local.expect("submit", start)
        local.expect("follow", end(JobStatus.SUCCEEDED))
        call(make_context(), "run", *GROUP, "--nogpu", "cpu.py", "--", "x")
    [experiment] = read_group(store, all_jobs=True).experiments
    assert len(experiment.jobs) == 2


def test_without_a_group_one_is_named_after_the_user_and_the_time(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(context, "run", "--nogpu", "cpu.py")
    assert latest_states(store, name="totoro-xgroup-2020-05-29-10-53-30") == ["SUCCEEDED"]


def test_an_existing_image_is_run_without_a_build(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(context, "run", *GROUP, "--image_id", "lab:1", "cpu.py")
    [experiment] = read_group(store).experiments
    assert experiment.container.spec == {"image_id": "lab:1", "package": [["python"], ".", "cpu.py", None]}


def test_an_image_whose_name_nothing_can_pull_is_wrong_usage(context: ScreenContext) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, "run", "--image_id", "ghcr.io/Totoro/digits:A", "cpu.py")
    assert (caught.value.id, caught.value.hint) == ("image-name-malformed", "use ghcr.io/totoro/digits:A")


def test_a_script_that_only_the_image_has_is_shown_as_given(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(context, "run", *GROUP, "--image_id", "lab:1", "inside.py")
    assert "\ninside.py\n  job 1  " in context.err


def test_arguments_of_docker_run_are_recorded_with_the_job(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(
        context, "run", *GROUP, "--nogpu", "--image_id", "lab:1", "--docker_run_args", "-v '/a b:/c' -e A=1", "cpu.py"
    )  # fmt: skip
    [spec] = local.arguments_of("submit")
    common = ["docker", "run", "--ipc", "host", "-e", "PYTHONUNBUFFERED=1"]
    assert spec == {"command": [*common, "-v", "/a b:/c", "-e", "A=1", "lab:1"], "container": "lab:1"}


@pytest.mark.parametrize(("flags", "gpu"), [((), True), (("--nogpu",), False)])
def test_containers_get_gpus_by_default(
    flags: tuple[str, ...],
    gpu: bool,
    store: Store,
    local: FakeService,
    fake_engine: FakeEngine,
    context: ScreenContext,
) -> None:
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(context, "run", *GROUP, *flags, "--image_id", "lab:1", "cpu.py")
    [spec] = local.arguments_of("submit")
    assert ("--gpus" in cast(dict[str, list[str]], spec)["command"]) is gpu


def test_the_default_mode_of_the_project_is_used(
    project: Path, store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    (project / ".calibanconfig.json").write_text('{"default_mode": "CPU"}')
    fake_engine.expect(IMAGE)
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    call(context, "run", *GROUP, "cpu.py")
    assert [spec.job_mode.value for spec in fake_engine.built] == ["CPU"]


def test_experiments_may_come_from_standard_input(
    store: Store, local: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    context = make_context('{"rate": 0.1}')
    call(context, "run", *GROUP, "--image_id", "lab:1", "--experiment_config", "stdin", "cpu.py")
    assert read_group(store).experiments[0].kwargs == {"rate": 0.1}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("no_such.py",), "module-not-found", "no_such.py"),
        (("--experiment_config", "none.json", "cpu.py"), "no-experiment-config", "none.json"),
        (("--experiment_config", "broken.json", "cpu.py"), "malformed-json", "broken.json"),
        (("--experiment_config", "wrong.json", "cpu.py"), "malformed-experiments", 'wrong.json, key "a"'),
        (("--experiment_config", "latin.json", "cpu.py"), "no-experiment-config", "latin.json"),
        (("--experiment_config", ".", "cpu.py"), "no-experiment-config", "."),
        (("--docker_run_args", "'open", "cpu.py"), "malformed-docker-run-args", "--docker_run_args"),
        (("--cloud_key", "none.json", "cpu.py"), "key-not-found", "key file not found: none.json"),
        (("-d", "no_such_directory", "cpu.py"), "extra-dir-not-found", "no_such_directory"),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--dry_run",)])
def test_wrong_input_is_reported_before_anything_is_built(
    arguments: tuple[str, ...],
    error: str,
    message: str,
    flags: tuple[str, ...],
    project: Path,
    context: ScreenContext,
) -> None:
    (project / "broken.json").write_text("{")
    (project / "wrong.json").write_text('{"a": null}')
    (project / "latin.json").write_bytes(b'{"a": "\xe4"}')
    with pytest.raises(UsageError) as caught:
        call(context, "run", *flags, *arguments)
    assert (caught.value.id, message in caught.value.message) == (error, True)


def test_a_malformed_configuration_is_reported_before_anything_is_built(project: Path, context: ScreenContext) -> None:
    (project / ".calibanconfig.json").write_text('{"base_imag": "base:1"}')
    with pytest.raises(UsageError, match="base_imag"):
        call(context, "run", "--nogpu", "cpu.py")


def test_an_unreachable_engine_is_reported_before_anything_is_recorded(
    context: ScreenContext, home: Path, tmp_path: Path
) -> None:
    context.environ["DOCKER_HOST"] = "unix:///nonexistent/sock"  # type: ignore[index]  # a dict in tests
    with pytest.raises(ImageError) as caught:
        call(context, "run", "--nogpu", "cpu.py")
    assert (caught.value.id, list(home.iterdir())) == ("docker-unreachable", [])


def test_a_failed_build_records_no_experiment(store: Store, fake_engine: FakeEngine, context: ScreenContext) -> None:
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed"))
    with pytest.raises(ImageError, match="step 3 failed"):
        call(context, "run", *GROUP, "--nogpu", "cpu.py")
    with pytest.raises(CalibanError, match="totoro has no experiment group"):
        call(context, "status", *GROUP)


def test_an_interrupt_stops_the_job_and_reports_what_was_started(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    local.expect("submit", start)
    local.expect("follow", interrupt_following)
    local.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError):
        call(context, "run", *GROUP, "--image_id", "lab:1", *CONFIG, "cpu.py")
    assert latest_states(store) == ["STOPPED", "-"]
    assert "\n2 experiments: 1 stopped, 1 not started\n" in context.err


def test_an_experiment_that_another_process_submits_is_reported(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    spec = {"image_id": "lab:1", "package": [["python"], ".", "cpu.py", None]}
    one, _ = add_group(store, JobStatus.FAILED, JobStatus.FAILED, container_spec=spec).experiments
    leave_open(store, one, host="catbus", pid=4711, renewed=context.clock.utc_now())
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED))
    (context.cwd / "experiment.json").write_text('{"sleep": [0, 1]}')
    assert call(context, "run", *GROUP, "--image_id", "lab:1", *CONFIG, "cpu.py", "--", "--foo", "3") == 1
    assert "[already-being-submitted]" in context.err
    assert latest_states(store) == ["FAILED", "SUCCEEDED"]


def test_a_dry_run_of_a_directory_shows_commands_and_image(context: ScreenContext, home: Path) -> None:
    assert call(context, "run", *GROUP, "--nogpu", *CONFIG, "--dry_run", "cpu.py", "--", "--foo", "3 4") == 0
    assert context.out == (
        "the following jobs would be run, in the experiment group resubmit_test:\n"
        "cpu.py --foo '3 4' --sleep 2\n"
        "cpu.py --foo '3 4' --sleep 1\n"
        "\n"
        f"container image: would be built from {context.cwd} (job_mode: CPU)\n"
        "\n"
        "nothing was run: to run these jobs, run this command without --dry_run\n"
    )
    assert (context.err, list(home.iterdir())) == ("", [])


def test_a_dry_run_names_what_is_in_the_image_by_accident(project: Path, context: ScreenContext) -> None:
    (project / ".venv").mkdir()
    with (project / ".venv" / "big.so").open("wb") as file:
        file.truncate(200 * 10**6)
    assert call(context, "run", "--nogpu", "--dry_run", "cpu.py") == 0
    assert context.err == (
        "warning: the build context is 200 MB, with .venv (200 MB, a virtual environment); if the job does not need "
        'it, add this line to .dockerignore: ".venv"\n'
    )


def test_a_dry_run_of_an_image_shows_the_image(context: ScreenContext) -> None:
    call(context, "run", "--image_id", "lab:1", "--dry_run", "cpu.py")
    assert "\ncontainer image: lab:1\n" in context.out


def test_script_arguments_are_shown_quoted(forked_caliban: ForkedCaliban) -> None:
    arguments = ("", "a b", "--", "--dry_run", "line\nbreak", "'")
    done = forked_caliban("run", "--image_id", "lab:1", "--dry_run", "cpu.py", "--", *arguments)
    assert "\ncpu.py '' 'a b' -- --dry_run 'line\\nbreak' ''\"'\"''\n" in done.stdout


def test_while_another_job_of_the_group_may_run_the_exit_code_is_1(
    store: Store, local: FakeService, fake_engine: FakeEngine, context: ScreenContext, ended_process: int
) -> None:
    """It is not known whether an interrupted command submitted it; what was asked for is done nevertheless."""
    leave_open(store, add_group(store, None).experiments[0], pid=ended_process)
    local.expect("find", local.fail_to_connect)
    fake_engine.expect(IMAGE)
    local.expect("submit", start)
    local.expect("follow", end(JobStatus.SUCCEEDED, ret_code=0))
    assert call(context, "run", *GROUP, "--nogpu", "cpu.py") == 1
    assert latest_states(store) == ["-", "SUCCEEDED"]
    assert "caliban abandon --xgroup resubmit_test" in context.err


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
