"""The walkthrough of caliban_resubmit.rst on AI Platform and Vertex AI, with a real Docker Engine and registry.

Only the two services are stand-ins. They validate requests against Google's API descriptions, and run the image of each
accepted job on the Docker Engine, so that the state of a job is that of its container.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from caliban.images.docker.engine import Engine
from tests.e2e.clouds import OTHER_PROJECT, PROJECT, Cloud
from tests.e2e.conftest import CommandResult, Researcher, wait_until
from tests.standins.faults import Fault

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
STATUS = ("status", "--xgroup", "resubmit_test")


def test_the_walkthrough(
    researcher: Researcher, cloud: Cloud, registry: str, wait_for_jobs: Callable[[], CommandResult]
) -> None:
    submitted = researcher.caliban(*cloud.submit())
    assert submitted.code == 0, submitted.err
    assert "Submitting request!" in submitted.err

    before = wait_for_jobs()
    assert cloud.normalized(before.out, registry)[:7] == [
        "xgroup resubmit_test:",
        f"docker config 1: job_mode: CPU, build url: {researcher.project}, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 2",
        f"    {cloud.job_line('SUCCEEDED', 1)}",
        "  experiment id 2: cpu.py --foo 3 --sleep 1",
        f"    {cloud.job_line('FAILED', 2, cloud.failure_reason)}",
        "2 experiments: 1 succeeded, 1 failed",
    ]

    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = researcher.caliban(*RESUBMIT, stdin="y\n")
    assert resubmitted.code == 0, resubmitted.err
    assert cloud.normalized(resubmitted.out, registry)[:3] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        f"  {cloud.job_line('FAILED', 2, cloud.failure_reason)}",
    ]
    question = resubmitted.err.index("\n do you wish to resubmit these 1 jobs? [yN]: y\n")
    rebuilding = resubmitted.err.index("rebuilding containers...")
    assert question < rebuilding < resubmitted.err.index("Submitting request!")

    after = wait_for_jobs()
    states = re.findall(rf"job (\d+) +(\w+) +{cloud.display_name} .* container: (\S+)", after.out)
    assert [state for _, state, _ in states] == ["SUCCEEDED", "SUCCEEDED"]
    assert states[1][0] == "3"
    first, rerun = (image for _, _, image in states)
    assert first != rerun, "the fixed code runs in a new image"


def test_an_image_that_the_registry_has_is_not_pushed_again(
    researcher: Researcher, cloud: Cloud, engine: Engine
) -> None:
    # The jobs pull their image on the engine that built it. The containerd image store then forgets that an image
    # without a name came from a build, and builds its last layer again.
    built = researcher.caliban("build", "--nogpu", "cpu.py").out.strip()
    engine.client.images.get(built).tag(f"caliban-test-kept:{uuid.uuid4().hex}")
    researcher.caliban(*cloud.submit())

    again = researcher.caliban(*cloud.submit())

    assert "already exists in the registry" in again.err


def test_a_dry_run_sends_no_request(researcher: Researcher, cloud: Cloud) -> None:
    result = researcher.caliban(*cloud.submit("--dry_run", "-v"), DOCKER_HOST="unix:///nowhere.sock")

    assert result.code == 0, result.err
    assert cloud.service.requests == []
    assert not researcher.store.exists()
    assert cloud.machine in result.out


def test_rejected_credentials_are_reported_before_anything_is_built(researcher: Researcher, cloud: Cloud) -> None:
    cloud.service.faults.add(Fault("oauth.token", "status", status=401, times=100))

    result = researcher.caliban(*cloud.submit())

    assert result.code == 1
    assert "[credentials-refused]" in result.err
    assert "Step 1" not in result.err


def test_a_refused_job_is_recorded_with_its_reason_and_the_others_are_submitted(
    researcher: Researcher, cloud: Cloud
) -> None:
    cloud.service.faults.add(Fault(cloud.create, "status", status=403, times=1))

    result = researcher.caliban(*cloud.submit())

    assert result.code == 1
    assert sorted(researcher.rows("SELECT status FROM jobs")) == [("FAILED",), ("SUBMITTED",)]
    assert sorted(researcher.rows("SELECT state FROM submissions")) == [("DONE",), ("FAILED",)]


def test_a_job_is_submitted_once_after_a_lost_response(researcher: Researcher, cloud: Cloud) -> None:
    researcher.write("experiment.json", '{"sleep": [6000, 6001]}')
    cloud.service.faults.add(Fault(cloud.create, "drop", times=1))

    result = researcher.caliban(*cloud.submit())

    assert result.code == 0, result.err
    assert cloud.job_count == 2
    assert researcher.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_a_group_is_rerun_in_the_project_it_ran_in(
    researcher: Researcher, cloud: Cloud, wait_for_jobs: Callable[[], CommandResult]
) -> None:
    researcher.caliban(*cloud.submit("--project_id", OTHER_PROJECT))
    wait_for_jobs()

    stays = researcher.caliban(*RESUBMIT, "--yes", PROJECT_ID=PROJECT)
    wait_for_jobs()
    moves = researcher.caliban(*RESUBMIT, "--yes", "--project_id", PROJECT)

    projects = [researcher.details(job)["project_id"] for job in (1, 3, 4)]
    assert projects == [OTHER_PROJECT, OTHER_PROJECT, PROJECT]
    assert "re-running jobs of project zoo-project there, not in totoro-project" in stays.err
    assert "re-running jobs of project zoo-project in project totoro-project" in moves.err


def test_stop_stops_running_jobs(researcher: Researcher, cloud: Cloud) -> None:
    researcher.write("experiment.json", '{"sleep": [6000]}')
    researcher.caliban(*cloud.submit())
    wait_until(lambda: " RUNNING " in researcher.caliban(*STATUS).out)

    preview = researcher.caliban("stop", "--xgroup", "resubmit_test", "--dry_run")
    stopped = researcher.caliban("stop", "--xgroup", "resubmit_test", stdin="y\n")

    assert preview.code == 0
    assert "nothing was stopped" in preview.out
    assert stopped.code == 0, stopped.err
    wait_until(lambda: " STOPPED " in researcher.caliban(*STATUS).out)
    assert "cpu.py --foo 3 --sleep 6000" in researcher.caliban(*RESUBMIT, "--dry_run").out


def test_an_unavailable_platform_changes_no_state(researcher: Researcher, cloud: Cloud) -> None:
    researcher.write("experiment.json", '{"sleep": [6000]}')
    researcher.caliban(*cloud.submit())
    wait_until(lambda: " RUNNING " in researcher.caliban(*STATUS).out)
    for method in cloud.status_methods:
        cloud.service.faults.add(Fault(method, "status", status=403, times=100))

    unavailable = researcher.caliban(*STATUS)
    cloud.service.faults.pending.clear()

    assert " RUNNING " in unavailable.out
    assert "(last known state; " in unavailable.out
    assert "last known state" not in researcher.caliban(*STATUS).out
