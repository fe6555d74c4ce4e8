"""What the stand-in for Vertex AI tells of jobs: lists, filters and states; and what becomes of accepted ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.clients import Client, error, wait_until
from tests.standins.custom_job_bodies import CREATE, JOBS, LOCATION, POOL, PROJECT, add, job_body
from tests.standins.custom_jobs import FINAL, CustomJob
from tests.standins.faults import Fault
from tests.standins.runners import Docker, Scripted


@pytest.fixture
def service() -> Iterator[AiplatformV1]:
    with AiplatformV1() as running:
        yield running


@pytest.fixture
def client(service: AiplatformV1, tmp_path: Path) -> Client:
    return Client(service.url, service.write_key_file(tmp_path / "key.json"))


def names(answer: requests.Response) -> list[str]:
    return [job["displayName"] for job in answer.json().get("customJobs", [])]


def test_a_list_holds_the_jobs_of_one_location_the_newest_first(client: Client, service: AiplatformV1) -> None:
    for name in ("first", "second"):
        add(service, name)
    service.jobs.create(PROJECT, "europe-west4", job_body("elsewhere"))

    assert names(client.send("GET", JOBS)) == ["second", "first"]


def test_no_jobs_are_an_empty_answer(client: Client) -> None:
    assert client.send("GET", JOBS).json() == {}


def test_pages_hold_a_hundred_jobs_at_most(client: Client, service: AiplatformV1) -> None:
    for number in range(130):
        add(service, f"job {number}")

    first = client.send("GET", JOBS, pageSize="1000").json()
    rest = client.send("GET", JOBS, pageSize="1000", pageToken=first["nextPageToken"]).json()

    assert (len(first["customJobs"]), len(rest["customJobs"]), "nextPageToken" in rest) == (100, 30, False)


def test_a_page_token_is_good_for_its_own_filter_only(client: Client, service: AiplatformV1) -> None:
    for number in range(2):
        add(service, f"job {number}")
    token = client.send("GET", JOBS, pageSize="1").json()["nextPageToken"]

    assert client.send("GET", JOBS, pageToken=token, filter='display_name="x"').status_code == 400


def test_a_mask_leaves_out_what_was_not_asked_for(client: Client, service: AiplatformV1) -> None:
    job = add(service)

    listed = client.send("GET", JOBS, readMask="name,state").json()

    assert listed == {"customJobs": [{"name": job.name, "state": "JOB_STATE_PENDING"}]}


def test_a_new_job_is_in_no_list_for_a_while_and_known_by_its_name_at_once(
    client: Client, service: AiplatformV1
) -> None:
    add(service, "of old")
    service.jobs.lag_s = 3600
    service.jobs.restore(service.jobs.find("of old"))
    job = add(service, "new")

    at_first = names(client.send("GET", JOBS))
    told = client.send("GET", f"v1/{job.name}").json()["displayName"]
    service.jobs.lag_s = 0

    assert (at_first, told, names(client.send("GET", JOBS))) == (["of old"], "new", ["new", "of old"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('display_name="rnn 1"', {"rnn 1"}),
        ('display_name!="rnn 1"', {"rnn 2", "cnn"}),
        ('display_name:"rnn*"', {"rnn 1", "rnn 2"}),
        ('state="JOB_STATE_FAILED"', {"rnn 2"}),
        ("state != JOB_STATE_FAILED", {"rnn 1", "cnn"}),
        ("labels.phase=test", {"rnn 1"}),
        ('labels.phase="test"', {"rnn 1"}),
        ("labels.phase:*", {"rnn 1", "cnn"}),
        ('labels.phase:* AND display_name:"*nn*" AND NOT display_name=cnn', {"rnn 1"}),
        ('display_name=cnn OR state="JOB_STATE_FAILED"', {"rnn 2", "cnn"}),
        ("display_name=cnn OR labels.phase=test AND state!=JOB_STATE_FAILED", {"rnn 1", "cnn"}),
        ("labels.phase=test AND (display_name=cnn OR state=JOB_STATE_FAILED)", set()),
        ('create_time>"2021-05-18T00:00:00Z"', {"rnn 1", "rnn 2", "cnn"}),
        ('create_time<="2021-05-18T00:00:00+02:00"', set()),
    ],
)
def test_filters_select_jobs(client: Client, service: AiplatformV1, text: str, expected: set[str]) -> None:
    add(service, "rnn 1", labels={"phase": "test"})
    add(service, "rnn 2")
    add(service, "cnn", labels={"phase": "train"})
    service.jobs.set_state("rnn 2", "JOB_STATE_FAILED")

    assert set(names(client.send("GET", JOBS, filter=text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("color=blue", "displayName=x", "name=x", "state:JOB_STATE_FAILED", "labels.phase!=test", "labels.phase:test"),
        *("state", "state=", "state=x AND", "(state=x", "state=x)", "create_time>yesterday", '"', "state=x state=y"),
        'create_time>"2021-05-18T00:00:00"',
    ],
)
def test_a_filter_that_the_service_would_not_understand_is_refused(client: Client, text: str) -> None:
    assert error(client.send("GET", JOBS, filter=text))["message"] == f"Invalid filter expression: {text}"


@pytest.mark.parametrize(
    ("state", "added"),
    [
        ("JOB_STATE_SUCCEEDED", {"endTime"}),
        ("JOB_STATE_FAILED", {"endTime", "error"}),
        ("JOB_STATE_CANCELLED", {"endTime", "error"}),
        ("JOB_STATE_EXPIRED", set()),
        ("JOB_STATE_RUNNING", {"startTime"}),
    ],
)
def test_a_state_brings_its_times_and_its_reason(
    client: Client, service: AiplatformV1, state: str, added: set[str]
) -> None:
    job = add(service)
    before = client.send("GET", f"v1/{job.name}").json()
    service.jobs.set_state(job.name, state)

    after = client.send("GET", f"v1/{job.name}").json()

    assert (after["state"], set(after) - set(before)) == (state, added)


def test_a_cancelled_job_takes_a_while_to_end(client: Client, service: AiplatformV1) -> None:
    job = add(service)

    assert client.send("POST", f"v1/{job.name}:cancel", {}).json() == {}
    at_first = client.send("GET", f"v1/{job.name}").json()["state"]
    service.jobs.end_cancelled()
    at_last = client.send("GET", f"v1/{job.name}").json()

    assert (at_first, at_last["state"]) == ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    assert at_last["error"] == {"code": 1, "message": "CANCELED"}


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_cannot_be_cancelled(client: Client, service: AiplatformV1, state: str) -> None:
    job = add(service)
    service.jobs.set_state(job.name, state)

    refused = error(client.send("POST", f"v1/{job.name}:cancel", {}))

    assert (refused["code"], refused["status"]) == (400, "FAILED_PRECONDITION")
    assert f"is in state {state} and cannot be canceled" in refused["message"]


def test_a_job_can_be_forgotten(client: Client, service: AiplatformV1) -> None:
    job = add(service)
    service.jobs.forget(job.name)

    assert client.send("GET", f"v1/{job.name}").status_code == 404


def test_a_job_can_be_put_back_as_it_was(client: Client, service: AiplatformV1) -> None:
    job = add(service)
    service.jobs.set_state(job.name, "JOB_STATE_FAILED", "out of memory")
    before = client.send("GET", f"v1/{job.name}").json()
    service.forget_all()
    service.jobs.lag_s = 60
    service.jobs.restore(job)

    assert client.send("GET", JOBS).json() == {"customJobs": [before]}


def test_a_dropped_answer_leaves_its_job_behind(client: Client, service: AiplatformV1) -> None:
    service.faults.add(Fault(CREATE, "drop"))

    with pytest.raises(requests.ConnectionError):
        client.send("POST", JOBS, job_body())

    assert service.jobs.find("a job").state == "JOB_STATE_PENDING"
    assert service.counts[CREATE] == 1


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED"])
def test_scripted_jobs_come_to_the_end_that_the_script_gives_them(end: str) -> None:
    with AiplatformV1(runner=Scripted(lambda job: end)) as service:
        job = add(service)
        wait_until(lambda: job.state in FINAL)

    assert job.state == f"JOB_STATE_{end}"
    assert "startTime" in job.outputs


def test_a_scripted_job_can_be_cancelled() -> None:
    with AiplatformV1(runner=Scripted(lambda job: "SUCCEEDED", step_s=10)) as service:
        job = add(service)
        service.jobs.cancel(PROJECT, LOCATION, job.id)
        wait_until(lambda: job.state == "JOB_STATE_CANCELLED")


def container_job(service: AiplatformV1, name: str, image: str, **container: Any) -> CustomJob:
    return add(service, name, pool={**POOL, "containerSpec": {"imageUri": image, **container}})


def test_a_jobs_end_is_what_its_container_really_did(base_image: str) -> None:
    shown = "import os, sys; sys.exit(' '.join([os.environ['COLOR'], *sys.argv[1:]]))"
    with AiplatformV1(runner=Docker(["docker"], os.environ), any_registry=True) as service:
        good = container_job(service, "good", base_image, args=["python3", "-c", "print('fine')"])
        command = ["python3", "-c", shown]
        env = [{"name": "COLOR", "value": "blue"}]
        bad = container_job(service, "bad", base_image, command=command, args=["--foo", "3"], env=env)
        lost = container_job(service, "lost", "localhost:1/no-such-image:1")
        wait_until(lambda: all(job.state in FINAL for job in service.jobs.all()), 120)

    assert [job.state for job in (good, bad, lost)] == ["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_FAILED"]
    words = "The replica workerpool0-0 exited with a non-zero status of 1.\nblue --foo 3"
    assert bad.outputs["error"] == {"code": 3, "message": words}
    assert lost.outputs["error"]["message"].startswith("The image could not be run: ")


def test_a_cancelled_job_ends_its_container(base_image: str) -> None:
    with AiplatformV1(runner=Docker(["docker"], os.environ), any_registry=True) as service:
        job = container_job(service, "long", base_image, args=["python3", "-c", "import time; time.sleep(600)"])
        wait_until(lambda: job.state == "JOB_STATE_RUNNING")
        service.jobs.cancel(PROJECT, LOCATION, job.id)
        wait_until(lambda: job.state == "JOB_STATE_CANCELLED", 60)
