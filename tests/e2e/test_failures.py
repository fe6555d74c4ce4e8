"""Failures are reported with their cause, affect only their own jobs, and leave nothing open."""

from __future__ import annotations

import shutil
import signal
import sqlite3

import pytest

from caliban.images.docker.engine import Engine
from tests.e2e.conftest import RUN, Researcher, RunUntilRunning, container_names

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes")


def test_an_unreachable_docker_daemon_is_reported_before_anything_is_written(researcher: Researcher) -> None:
    result = researcher.caliban(*RUN, DOCKER_HOST="unix:///nowhere/docker.sock")

    assert result.code == 1
    assert "[docker-unreachable]" in result.err
    assert "hint: " in result.err
    assert not researcher.store.exists()


def test_an_unreachable_docker_daemon_is_reported_before_the_question(group_with_a_failure: Researcher) -> None:
    result = group_with_a_failure.caliban(*RESUBMIT[:-1], stdin="y\n", DOCKER_HOST="unix:///nowhere/docker.sock")

    assert result.code == 1
    assert "[docker-unreachable]" in result.err
    assert "do you wish" not in result.err


def test_a_missing_build_directory_is_reported_before_the_question(group_with_a_failure: Researcher) -> None:
    elsewhere = group_with_a_failure.home
    shutil.rmtree(group_with_a_failure.project)

    result = group_with_a_failure.caliban(*RESUBMIT[:-1], stdin="y\n", cwd=elsewhere)

    assert result.code == 1
    assert f"directory not found: {group_with_a_failure.project} [build-folder-gone]" in result.err
    assert "do you wish" not in result.err


def test_images_are_rebuilt_from_the_recorded_directory_not_the_working_directory(
    group_with_a_failure: Researcher,
) -> None:
    group_with_a_failure.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    decoy = group_with_a_failure.home / "cpu.py"
    decoy.write_text("raise SystemExit('the wrong directory')")

    result = group_with_a_failure.caliban(*RESUBMIT, cwd=group_with_a_failure.home)

    assert result.code == 0, result.err


def test_a_failed_build_step_is_reported_with_its_last_lines(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.write("requirements.txt", "no-such-package-anywhere==1.2.3\n")

    result = group_with_a_failure.caliban(*RESUBMIT)

    assert result.code == 1
    assert "[build-step-failed]" in result.err
    assert "no-such-package-anywhere" in result.err.split("[build-step-failed]")[1]
    assert group_with_a_failure.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_an_unavailable_base_image_is_reported_by_name(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.write(".calibanconfig.json", '{"base_image": "localhost:1/no/such:image"}')

    result = group_with_a_failure.caliban(*RESUBMIT)

    assert result.code == 1
    assert "[base-image-unavailable]" in result.err
    assert "localhost:1/no/such:image" in result.err


def test_a_failed_build_does_not_stop_the_jobs_of_other_images(
    group_with_a_failure: Researcher,
) -> None:
    other = group_with_a_failure.project.parent / "other"
    shutil.copytree(group_with_a_failure.project, other)
    group_with_a_failure.caliban(*RUN, cwd=other)
    (other / "requirements.txt").write_text("no-such-package-anywhere==1.2.3\n")
    group_with_a_failure.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")

    result = group_with_a_failure.caliban(*RESUBMIT)

    assert result.code == 1
    assert "[build-step-failed]" in result.err
    assert group_with_a_failure.rows("SELECT experiment_id, status FROM jobs WHERE id > 4") == [(2, "SUCCEEDED")]


def test_a_malformed_job_spec_affects_only_its_own_job(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.caliban(*RUN)
    with_bad_spec = 'UPDATE job_specs SET spec = \'{"command": "docker"}\' WHERE experiment_id = 1'
    with sqlite3.connect(group_with_a_failure.store) as connection:
        connection.execute(with_bad_spec)

    result = group_with_a_failure.caliban(*RESUBMIT, "--all_jobs")

    assert result.code == 1
    assert '"command" is not a list of strings' in result.err
    assert group_with_a_failure.rows("SELECT experiment_id FROM jobs WHERE id > 4") == [(2,)]


def test_a_container_that_cannot_start_is_recorded_as_failed_with_its_reason(researcher: Researcher) -> None:
    arguments = ("run", "--xgroup", "g", "--nogpu", "--docker_run_args", "--network no-such-network", "cpu.py")

    result = researcher.caliban(*arguments)

    assert result.code == 1
    assert "no-such-network" in result.err.split("[container-not-started]")[1]
    assert researcher.rows("SELECT status FROM jobs") == [("FAILED",)]
    assert "no-such-network" in str(researcher.details(1)["error"])
    assert researcher.rows("SELECT state, job_id FROM submissions") == [("FAILED", 1)]


def test_a_container_that_cannot_start_is_removed(researcher: Researcher, engine: Engine) -> None:
    researcher.caliban("run", "--nogpu", "--docker_run_args", "--network no-such-network", "cpu.py")

    assert container_names(engine, str(researcher.details(1)["name"])) == []


def test_missing_gpus_are_reported_with_a_hint(researcher: Researcher) -> None:
    result = researcher.caliban("run", "cpu.py")

    assert result.code == 1
    assert "--nogpu" in result.err.split("[gpu-unavailable]")[1]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_and_records_its_container(
    researcher: Researcher, engine: Engine, run_until_running: RunUntilRunning, signal_number: signal.Signals
) -> None:
    process = run_until_running("[6000, 0]")

    process.send_signal(signal_number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + signal_number
    assert researcher.rows("SELECT status FROM jobs") == [("STOPPED",)]
    assert engine.client.containers.get(str(researcher.details(1)["name"])).status == "exited"
    assert "1 stopped, 1 not started" in err
    assert "job 1        STOPPED" in err


def test_experiments_that_an_interrupted_run_did_not_start_are_resubmitted(
    researcher: Researcher, run_until_running: RunUntilRunning
) -> None:
    process = run_until_running("[6000, 0]")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    researcher.replace("cpu.py", "time.sleep(args.sleep / 10)", "")

    result = researcher.caliban(*RESUBMIT)

    assert result.code == 0, result.err
    assert researcher.rows("SELECT experiment_id, status FROM jobs WHERE id > 1") == [
        (1, "SUCCEEDED"),
        (2, "SUCCEEDED"),
    ]


def test_status_finds_out_how_a_job_of_a_killed_command_ended(
    researcher: Researcher, engine: Engine, run_until_running: RunUntilRunning
) -> None:
    process = run_until_running("[20]")
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert " RUNNING " in researcher.caliban("status", "--xgroup", "resubmit_test").out
    engine.client.containers.get(str(researcher.details(1)["name"])).wait()
    assert " SUCCEEDED " in researcher.caliban("status", "--xgroup", "resubmit_test").out
    assert researcher.details(1)["ret_code"] == 0


def test_the_job_of_a_removed_container_is_unknown_and_not_resubmitted(orphaned: Researcher, engine: Engine) -> None:
    engine.client.containers.get(str(orphaned.details(1)["name"])).remove(force=True)

    result = orphaned.caliban(*RESUBMIT)

    assert result.code == 0
    assert "nothing to resubmit" in result.out
    assert orphaned.rows("SELECT status FROM jobs") == [("UNKNOWN",)]


def test_without_docker_the_last_known_state_is_shown(orphaned: Researcher) -> None:
    result = orphaned.caliban("status", "--xgroup", "resubmit_test", DOCKER_HOST="unix:///nowhere.sock")

    assert result.code == 0
    assert "(last known state; cannot reach the Docker daemon" in result.out
    assert orphaned.rows("SELECT status FROM jobs") == [("RUNNING",)]
