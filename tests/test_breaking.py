"""Regressions: each of these broke caliban once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from caliban.attempts import AdditionalAttempt, Submission
from caliban.cli import render
from caliban.cli.command_line import parse
from caliban.cli.console import Console
from caliban.errors import CalibanError, UsageError
from caliban.platforms.registry import Platforms
from caliban.records import ContainerRecord, JobRecord, JobStatus, JobUpdate, JsonObject, NewJob
from caliban.store.database import Store
from caliban.submission.signals import hold_signals
from caliban.submission.submit import Attempt, InterruptedSubmissionError, Submitter
from tests.builders import IMAGE, add_group, an_experiment, leave_open
from tests.calls import call
from tests.cli.plugins import add_package
from tests.conftest import Caliban, MakeScreen, ScreenContext
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeStream, RecordingReporter


def attempts(store: Store, count: int) -> list[Attempt]:
    return [
        Attempt(experiment, "TEST", {"image": IMAGE, "arguments": []}, IMAGE, FakeDestination(), AdditionalAttempt())
        for experiment in add_group(store, *[None] * count).experiments
    ]


@pytest.fixture
def submitter(store: Store, platforms: Platforms, reporter: RecordingReporter) -> Submitter:
    return Submitter(store, platforms, reporter, "totoro", parallel=1)


def test_a_signal_is_not_lost_when_the_block_raises() -> None:
    def fail_when_interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        raise CalibanError("x", "no")

    with pytest.raises(KeyboardInterrupt), hold_signals():
        fail_when_interrupted()


def test_an_interrupt_while_an_answer_is_lost_ends_the_submission(
    store: Store, submitter: Submitter, service: FakeService
) -> None:
    def lose(spec: JsonObject, submission: Submission) -> NewJob:
        service.interrupt()
        return service.lose_answer(spec, submission)

    service.expect("submit", lose)
    with pytest.raises(InterruptedSubmissionError) as caught:
        submitter.submit_all(attempts(store, 3))
    # the attempt whose answer was lost had been started: it has an outcome and is not counted as "not started"
    assert ([o.error and o.error.id for o in caught.value.outcomes], caught.value.not_started) == (["fake-timeout"], 2)


def test_a_result_that_cannot_be_recorded_is_an_outcome_with_an_error(
    store: Store, submitter: Submitter, foreground: FakeService, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = attempts(store, 1)
    other = sqlite3.connect(home / ".caliban" / "caliban.db", isolation_level=None)

    def follow(job: JobRecord) -> JobUpdate:
        store._engine.dispose()  # so that the new busy timeout counts
        other.execute("BEGIN IMMEDIATE")
        return JobUpdate(JobStatus.SUCCEEDED)

    monkeypatch.setattr("caliban.store.engines.BUSY_TIMEOUT", 0.1)
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", follow)
    with closing(other):
        outcomes = submitter.submit_all(work)
    assert len(outcomes) == 1
    assert outcomes[0].error is not None
    assert outcomes[0].job is not None


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hold_signals():
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pytest.fail("an ignored SIGINT became an interrupt")
    finally:
        signal.signal(signal.SIGINT, before)


WAITS = """
    DESCRIPTION = "Wait for the end of the input."

    def add_arguments(parser):
        pass

    def run(args, context):
        context.console.print("ready")
        context.console.read_input()
        return 0
"""


def test_a_command_in_the_background_of_a_script_can_be_terminated(tmp_path: Path, run_caliban: Caliban) -> None:
    add_package(tmp_path / "site", "caliban-waits", {"linger": "wait_plugin"}, {"wait_plugin": WAITS})
    with subprocess.Popen(
        [sys.executable, "-m", "caliban", "linger"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=run_caliban.environment({"PYTHONPATH": str(tmp_path / "site")}),
        cwd=run_caliban.cwd,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as sh does for `command &`
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.wait() != -signal.SIGKILL


def test_the_script_is_quoted_too() -> None:
    container = ContainerRecord(1, {"package": [["python"], ".", "my script.py", None]})
    line = render.command_line(an_experiment(args=(), kwargs={}, container=container))
    assert line == "'my script.py'"


def test_malformed_extra_dirs_are_not_split_into_letters() -> None:
    line = render.container_line(ContainerRecord(1, {"extra_dirs": "data"}), Path("/home/totoro"))
    assert "d, a, t, a" not in line


@pytest.mark.parametrize("flag", ["--log_dir=/tmp", "--pdb", "--only_check_args"])
def test_a_flag_without_a_command_is_an_error_that_names_no_command(flag: str, run_caliban: Caliban) -> None:
    done = run_caliban(flag)
    assert (done.returncode, "None" in done.stderr) == (2, False)


def test_a_deleted_current_directory_is_reported(tmp_path: Path, run_caliban: Caliban) -> None:
    deleted = tmp_path / "deleted"
    deleted.mkdir()
    program = (
        "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, '-m', 'caliban', 'status'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=deleted,
        env=run_caliban.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_experiments_that_are_not_text_are_reported(run_caliban: Caliban) -> None:
    (run_caliban.cwd / "cpu.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "caliban", "run", "--dry_run", "--nogpu", "--experiment_config", "stdin", "cpu.py"],
        input=b'{"a": "\xe4"}',
        capture_output=True,
        env=run_caliban.environment({"PYTHONIOENCODING": "utf-8:strict"}),
        cwd=run_caliban.cwd,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_plugin_that_exits_on_import_causes_a_warning(tmp_path: Path, run_caliban: Caliban) -> None:
    add_package(tmp_path / "site", "caliban-exits", {"exits": "exits_plugin"}, {"exits_plugin": "raise SystemExit(3)"})
    done = run_caliban("--help", env={"PYTHONPATH": str(tmp_path / "site")})
    assert (done.returncode, "warning: " in done.stderr) == (0, True)


def test_the_end_of_input_at_a_terminal_ends_the_line(make_screen: MakeScreen) -> None:
    screen = make_screen("", is_terminal=True)
    screen.console.confirm("go on?")
    screen.console.info("no answer was given")
    assert "[yN]: \nno answer" in screen.stderr.text


def test_a_malformed_number_of_jobs_is_reported_without_names_of_functions() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["caliban", "status", "--max_jobs", "x"], Console(FakeStream(), FakeStream(), FakeStream()))
    assert caught.value.message == '--max_jobs: expected an integer >= 0, got "x"'


def test_a_dry_run_does_not_show_an_interrupted_submission_as_in_progress(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    [experiment] = add_group(store, JobStatus.FAILED, container_spec={"image_id": "lab:1"}).experiments
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    leave_open(store, experiment, pid=process.pid)
    call(context, "resubmit", "--xgroup", "resubmit_test", "--dry_run")
    assert "being submitted by" not in context.out


def test_a_dry_run_without_ready_jobs_does_not_suggest_to_run_it(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, JobStatus.FAILED, container_spec={"build_path": "/nowhere"})
    call(context, "resubmit", "--xgroup", "resubmit_test", "--dry_run")
    assert "to resubmit these jobs" not in context.out


def test_one_value_is_not_counted_in_the_plural() -> None:
    from caliban.submission.experiments import parse_experiments

    with pytest.raises(CalibanError) as caught:
        parse_experiments('{"[a]": [1, 2]}', source="x")
    assert "1 values" not in caught.value.message
