"""Stored details and destinations of jobs on clusters: what every version wrote is read, and nothing heavy imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import Any

import pytest

from caliban.platforms.kubernetes.details import (
    GkeDestination,
    JobState,
    KubeconfigDestination,
    parse_gke_details,
    parse_kubeconfig_details,
    refused_details,
    with_state,
)
from caliban.records import FailureCause, JobExit, JobStatus
from tests.platforms.kubernetes.helpers import DESTINATION, GKE_DESTINATION, PEER_DETAILS

METADATA = {"name": "x", "namespace": "default", "uid": "1"}
OURS = {"context": "lab", "job": {"metadata": METADATA}}


def test_the_details_of_caliban_0_4_2_are_read() -> None:
    details = parse_gke_details(JobStatus.SUBMITTED, PEER_DETAILS)
    assert (details.destination, details.display_name, details.id) == (
        GKE_DESTINATION,
        "job-stop-test-rssqq",
        "6f1c5a5e-0000-4000-8000-000000000001",
    )
    assert (details.raw, details.exit, details.pending_reason) == (PEER_DETAILS, None, None)


def test_the_details_of_a_kubeconfig_cluster_are_read() -> None:
    details = parse_kubeconfig_details(JobStatus.RUNNING, {**OURS, "reason": "suspended"})
    assert (details.destination, details.display_name, details.id) == (DESTINATION, "x", "1")
    assert (details.exit, details.pending_reason) == (None, "suspended")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"reason": "exit code 3"}, JobExit(3, FailureCause.CODE_ERROR, "exit code 3")),
        ({"reason": "exit code 1: oops"}, JobExit(1, FailureCause.CODE_ERROR, "exit code 1: oops")),
        (
            {"reason": "OOMKilled, exit code 137"},
            JobExit(137, FailureCause.OUT_OF_MEMORY, "OOMKilled, exit code 137"),
        ),
        (
            {"reason": "StartError, exit code 128: no such file"},
            JobExit(128, FailureCause.IMAGE, "StartError, exit code 128: no such file"),
        ),
        ({"reason": "Evicted: low on memory"}, JobExit(None, FailureCause.INFRASTRUCTURE, "Evicted: low on memory")),
        ({"reason": "PreemptionByScheduler"}, JobExit(None, FailureCause.PREEMPTED, "PreemptionByScheduler")),
        ({"reason": "ErrImagePull: not found"}, JobExit(None, FailureCause.IMAGE, "ErrImagePull: not found")),
        ({"reason": "DeadlineExceeded: late"}, JobExit(None, FailureCause.TIMEOUT, "DeadlineExceeded: late")),
        (
            {"reason": "BackoffLimitExceeded: Job has reached the specified backoff limit"},
            JobExit(None, FailureCause.UNKNOWN, "BackoffLimitExceeded: Job has reached the specified backoff limit"),
        ),
        (
            {"reason": "exit code 5", "cause": "infrastructure"},
            JobExit(None, FailureCause.INFRASTRUCTURE, "exit code 5"),
        ),
        (
            {"reason": "exit code 5", "ret_code": 5, "cause": "code_error"},
            JobExit(5, FailureCause.CODE_ERROR, "exit code 5"),
        ),
        ({"reason": "x", "cause": "of a later version"}, JobExit(None, FailureCause.UNKNOWN, "x")),
        ({"reason": "x", "ret_code": "3", "cause": "code_error"}, JobExit(None, FailureCause.CODE_ERROR, "x")),
        ({}, None),
        ({"reason": 3}, None),
    ],
)
def test_how_a_job_failed_is_read_from_details_of_every_version(
    stored: dict[str, Any], expected: JobExit | None
) -> None:
    assert parse_kubeconfig_details(JobStatus.FAILED, {**OURS, **stored}).exit == expected


@pytest.mark.parametrize("parse", [parse_gke_details, parse_kubeconfig_details])
def test_a_refusal_is_read_in_one_line_with_its_cause(parse: Any) -> None:
    stored = {"error": "permission denied:\n  not\tallowed"}
    expected = JobExit(None, FailureCause.REFUSED, "permission denied: not allowed")
    assert parse(JobStatus.FAILED, stored).exit == expected


def test_a_refusal_that_also_has_a_reason_is_read_with_it() -> None:
    stored = {"error": "permission denied: a\nb", **refused_details(GKE_DESTINATION, "x", "permission denied: a")}
    details = parse_gke_details(JobStatus.FAILED, stored)
    assert details.exit == JobExit(None, FailureCause.REFUSED, "permission denied: a")
    assert (details.destination, details.display_name, details.links) == (GKE_DESTINATION, "x", ())


def test_jobs_that_succeeded_or_were_stopped_have_an_exit_too() -> None:
    assert parse_kubeconfig_details(JobStatus.SUCCEEDED, OURS).exit == JobExit(0)
    assert parse_kubeconfig_details(JobStatus.STOPPED, OURS).exit == JobExit(cause=FailureCause.STOPPED)


def test_a_long_reason_is_cut() -> None:
    details = parse_kubeconfig_details(JobStatus.FAILED, {**OURS, "reason": "x" * 1000})
    assert len(str(details.reason)) == 300


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("2026-11-25T13:00:00+00:00", datetime(2026, 11, 25, 13, tzinfo=timezone.utc)),
        ("2026-11-25T13:00:00", None),
        ("yesterday", None),
        (None, None),
        (3, None),
    ],
)
def test_times_are_read_with_their_zone_or_not_at_all(stored: object, expected: datetime | None) -> None:
    details = parse_kubeconfig_details(JobStatus.FAILED, {**OURS, "started": stored, "ended": stored})
    assert (details.started, details.ended) == (expected, expected)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"job": None},
        {"job": "x", "context": 3},
        {"context": "lab"},
        {"context": "lab", "job": {"metadata": []}},
        {"context": "", "job": {"metadata": METADATA}},
        {"job": {"metadata": METADATA}},
        {"cluster_name": "blueshift", "job": {"metadata": METADATA}},
    ],
)
@pytest.mark.parametrize("parse", [parse_gke_details, parse_kubeconfig_details])
@pytest.mark.parametrize("status", JobStatus)
def test_malformed_details_have_no_destination(raw: dict[str, Any], parse: Any, status: JobStatus) -> None:
    details = parse(status, raw)
    assert (details.destination, details.links, details.reason) == (None, (), None)


def test_a_new_state_replaces_the_earlier_one_and_nothing_else() -> None:
    state = JobState(JobStatus.FAILED, "exit code 3", 3, FailureCause.CODE_ERROR, "2026-11-25T13:00:00+00:00")
    stored = with_state({**PEER_DETAILS, "reason": "suspended", "ended": "x"}, state)
    assert stored == {
        **PEER_DETAILS,
        "reason": "exit code 3",
        "ret_code": 3,
        "cause": "code_error",
        "started": "2026-11-25T13:00:00+00:00",
    }
    assert with_state(stored, JobState(JobStatus.RUNNING)) == PEER_DETAILS


@pytest.mark.parametrize("destination", [GKE_DESTINATION, DESTINATION])
def test_a_destination_survives_the_journal(destination: GkeDestination | KubeconfigDestination) -> None:
    assert type(destination).from_json(destination.to_json()) == destination


def test_destinations_are_stored_with_the_keys_of_earlier_versions() -> None:
    assert GKE_DESTINATION.to_json() == {
        "project": "totoro-project",
        "location": "us-central1-a",
        "cluster": "blueshift",
        "namespace": "default",
    }
    assert DESTINATION.to_json() == {"context": "lab", "namespace": "default"}


def test_a_command_quotes_the_name_of_a_context() -> None:
    (command,) = KubeconfigDestination("my lab", namespace="default").links("x")
    assert command == "kubectl --context 'my lab' --namespace default logs --follow job/x"


def test_reading_details_imports_no_client_library() -> None:
    program = (
        "import sys, caliban.platforms.kubernetes.details; "
        "print([m for m in ('kubernetes', 'google.auth', 'urllib3', 'docker', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
