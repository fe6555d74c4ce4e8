"""The story of caliban_resubmit.rst on AI Platform: the real command, Docker Engine, registry and Google libraries.

The service alone is a stand-in. It checks what it is sent against Google's own description of the API, and runs each
accepted job's image on the Docker Engine, so that a job's state is what its container really did.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import Answer, Researcher, wait_until
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1
from tests.standins.runners import Docker

PROJECT = "totoro-project"
CLOUD = (
    *("cloud", "--platform", "caip", "--xgroup", "resubmit_test", "--nogpu", "--experiment_config", "experiment.json"),
    *("cpu.py", "--", "--foo", "3"),
)
RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
STATUS = ("status", "--xgroup", "resubmit_test")


@pytest.fixture
def registry() -> str:
    found = os.environ.get("CALIBAN_TEST_REGISTRY")
    if not found:
        pytest.fail("CALIBAN_TEST_REGISTRY is not set: run `make test`, which brings a registry up")
    return found


@pytest.fixture
def service(researcher: Researcher, registry: str, base_image: str) -> Iterator[MlV1]:
    """AI Platform, with the researcher's key to it and a registry to push to."""
    with MlV1({PROJECT, "zoo-project"}, runner=Docker(["docker"], os.environ)) as service:
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        config = {"base_image": base_image, "registry": f"{registry}/{PROJECT}"}
        researcher.write(".calibanconfig.json", json.dumps(config))
        yield service


@pytest.fixture
def finished(researcher: Researcher) -> Callable[[], Answer]:
    """Wait until no job of the group is under way any more, and give the last listing."""

    def wait() -> Answer:
        answers: list[Answer] = []

        def none_runs() -> bool:
            answers.append(researcher.caliban(*STATUS))
            return not re.search(" (SUBMITTED|RUNNING) ", answers[-1].out)

        wait_until(none_runs)
        return answers[-1]

    return wait


def in_the_words_of_the_document(answer: Answer, registry: str) -> list[str]:
    """Standard output with the document's registry, dates, hashes and ids in place of the real ones."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2020-05-29 10:53:40", answer.out)
    text = re.sub(rf"{registry}/{PROJECT}/[0-9a-f]{{12}}:latest", f"gcr.io/{PROJECT}/cffd1475aaca:latest", text)
    text = re.sub(r"job \d ", "job N ", text)  # several are submitted at a time
    text = re.sub(r"caliban_totoro_\d{8}_\d{6}_", "caliban_totoro_20200529_105338_", text)
    return text.splitlines()


def test_the_walk_through_of_the_document(
    researcher: Researcher, service: MlV1, registry: str, finished: Callable[[], Answer]
) -> None:
    submitted = researcher.caliban(*CLOUD)
    assert submitted.code == 0, submitted.err
    assert "Submitting request!" in submitted.err

    before = finished()
    assert in_the_words_of_the_document(before, registry) == [
        "xgroup resubmit_test:",
        f"docker config 1: job_mode: CPU, build url: {researcher.folder}, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 2",
        "    job N        SUCCEEDED     CAIP 2020-05-29 10:53:40 container: "
        "gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529_105338_1",
        "  experiment id 2: cpu.py --foo 3 --sleep 1",
        "    job N        FAILED        CAIP 2020-05-29 10:53:40 container: "
        "gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529_105338_2",
    ]

    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = researcher.caliban(*RESUBMIT, stdin="y\n")
    assert resubmitted.code == 0, resubmitted.err
    assert in_the_words_of_the_document(resubmitted, registry)[:3] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        "  job N        FAILED        CAIP 2020-05-29 10:53:40 container: "
        "gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529_105338_2",
    ]
    question = resubmitted.err.index("\n do you wish to resubmit these 1 jobs? [yN]: y\n")
    rebuilding = resubmitted.err.index("rebuilding containers...")
    assert question < rebuilding < resubmitted.err.index("Submitting request!")

    after = finished()
    states = re.findall(r"job (\d+) +(\w+) +CAIP .* container: (\S+)", after.out)
    assert [state for _, state, _ in states] == ["SUCCEEDED", "SUCCEEDED"]
    assert states[1][0] == "3"
    first, rerun = (image for _, _, image in states)
    assert first != rerun, "the fixed code runs in a new image"


def test_the_request_is_the_whole_job(researcher: Researcher, service: MlV1, registry: str) -> None:
    researcher.caliban(*CLOUD[:-4], "--name", "My Job", "--label", "Team=Vision", *CLOUD[-4:])

    ((token, image, job_id),) = researcher.rows(
        "SELECT token, container, name FROM submissions JOIN jobs ON job_id = jobs.id WHERE jobs.experiment_id = 1"
    )
    [sent] = [body for body in service.bodies("ml.projects.jobs.create") if body["jobId"] == job_id]
    assert sent == {
        "jobId": job_id,
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "my_job",
            "docker_image": re.sub("[^a-z0-9_-]", "", str(image)),
            "team": "vision",
            "foo": "3",
            "sleep": "2",
            "caliban_token": token,
        },
        "trainingInput": {
            "masterConfig": {
                "imageUri": image,
                "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
            },
            "scaleTier": "CUSTOM",
            "masterType": "n1-highcpu-32",
            "region": "us-central1",
            "args": ["--foo", "3", "--sleep", "2"],
        },
    }
    assert re.fullmatch(rf"{registry}/{PROJECT}/[0-9a-f]{{12}}:latest", str(image))


def test_each_accepted_job_is_told_with_its_page_and_the_command_for_its_log(
    researcher: Researcher, service: MlV1
) -> None:
    answer = researcher.caliban(*CLOUD)

    name = str(researcher.details(1)["jobId"])
    assert f"https://console.cloud.google.com/mlengine/jobs/{name}?project={PROJECT}" in answer.err
    assert f"gcloud ai-platform jobs stream-logs {name} --project" in answer.err


def test_an_image_that_the_registry_has_is_not_pushed_again(researcher: Researcher, service: MlV1) -> None:
    researcher.caliban(*CLOUD)

    again = researcher.caliban(*CLOUD)

    assert "is in the registry already" in again.err


def test_a_dry_run_asks_nobody(researcher: Researcher, service: MlV1) -> None:
    answer = researcher.caliban(*CLOUD[:1], "--dry_run", "-v", *CLOUD[1:], DOCKER_HOST="unix:///nowhere.sock")

    assert answer.code == 0, answer.err
    assert service.requests == []
    assert not researcher.store.exists()
    assert '"masterType": "n1-highcpu-32"' in answer.out


def test_hardware_that_does_not_go_together_is_refused_before_anything_is_built(
    researcher: Researcher, service: MlV1
) -> None:
    answer = researcher.caliban("cloud", "--platform", "caip", "--gpu_spec", "1xV100", "--region", "us-east4", "cpu.py")

    assert (answer.code, service.requests) == (2, [])
    assert "[gpu-not-in-region]" in answer.err
    assert "Step 1" not in answer.err


def test_a_rejected_token_is_told_before_anything_is_built(researcher: Researcher, service: MlV1) -> None:
    service.faults.add(Fault("oauth.token", "status", status=401, times=100))

    answer = researcher.caliban(*CLOUD)

    assert answer.code == 1
    assert "[credentials-refused]" in answer.err
    assert "Step 1" not in answer.err


def test_a_job_that_is_refused_is_recorded_with_the_reason_and_the_rest_go_on(
    researcher: Researcher, service: MlV1
) -> None:
    service.faults.add(Fault("ml.projects.jobs.create", "status", status=403, times=1))

    answer = researcher.caliban(*CLOUD)

    assert answer.code == 1
    assert sorted(researcher.rows("SELECT status FROM jobs")) == [("FAILED",), ("SUBMITTED",)]
    assert sorted(researcher.rows("SELECT state FROM submissions")) == [("DONE",), ("FAILED",)]


def test_a_job_whose_answer_was_lost_is_submitted_once(researcher: Researcher, service: MlV1) -> None:
    service.faults.add(Fault("ml.projects.jobs.create", "drop", times=1))

    answer = researcher.caliban(*CLOUD)

    assert answer.code == 0, answer.err
    assert len(service.jobs.all()) == 2
    assert researcher.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_a_group_of_another_project_is_re_run_there(
    researcher: Researcher, service: MlV1, finished: Callable[[], Answer]
) -> None:
    researcher.caliban(*CLOUD[:1], "--project_id", "zoo-project", *CLOUD[1:])
    finished()

    stays = researcher.caliban(*RESUBMIT, "--yes", PROJECT_ID=PROJECT)
    finished()
    moves = researcher.caliban(*RESUBMIT, "--yes", "--project_id", PROJECT)

    projects = [researcher.details(job)["project_id"] for job in (1, 3, 4)]
    assert projects == ["zoo-project", "zoo-project", PROJECT]
    assert "jobs of project zoo-project are re-run there" in stays.err
    assert "jobs of project zoo-project are re-run in project totoro-project" in moves.err


def test_running_jobs_are_stopped_on_request(researcher: Researcher, service: MlV1) -> None:
    researcher.write("experiment.json", '{"sleep": [6000]}')
    researcher.caliban(*CLOUD)
    wait_until(lambda: " RUNNING " in researcher.caliban(*STATUS).out)

    preview = researcher.caliban("stop", "--xgroup", "resubmit_test", "--dry_run")
    stopped = researcher.caliban("stop", "--xgroup", "resubmit_test", stdin="y\n")

    assert preview.code == 0
    assert "nothing was stopped" in preview.out
    assert stopped.code == 0, stopped.err
    wait_until(lambda: " STOPPED " in researcher.caliban(*STATUS).out)
    assert "cpu.py --foo 3 --sleep 6000" in researcher.caliban(*RESUBMIT, "--dry_run").out


def test_a_platform_that_does_not_answer_changes_no_state(researcher: Researcher, service: MlV1) -> None:
    researcher.write("experiment.json", '{"sleep": [6000]}')
    researcher.caliban(*CLOUD)
    wait_until(lambda: " RUNNING " in researcher.caliban(*STATUS).out)
    service.faults.add(Fault("ml.projects.jobs.get", "status", status=403, times=100))

    unanswered = researcher.caliban(*STATUS)
    service.faults.pending.clear()

    assert " RUNNING " in unanswered.out
    assert "(last known state; " in unanswered.out
    assert "last known state" not in researcher.caliban(*STATUS).out
