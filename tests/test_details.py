"""Every shape of ``jobs.details`` that was ever written is read: by caliban 0.4.2, by revision 0002, and now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.platforms.registry import parse_details
from caliban.records import FailureCause, JobDetails, JobExit, JobStatus, JsonObject, PlatformId

FAILED, STOPPED, SUCCEEDED = JobStatus.FAILED, JobStatus.STOPPED, JobStatus.SUCCEEDED
SUBMITTED, RUNNING, UNKNOWN = JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.UNKNOWN
PLATFORMS = ("LOCAL", "CAIP", "VERTEX", "GKE", "KUBERNETES")

NAMES = {"name": "caliban-totoro-0123", "host": "catbus"}
CAIP = {"jobId": "caliban_totoro_1", "project_id": "totoro-project"}
VERTEX = {
    "project_id": "totoro-project",
    "region": "us-central1",
    "name": "projects/1/locations/us-central1/customJobs/42",
    "displayName": "caliban-totoro-0123",
}
METADATA = {"name": "job-stop-test-rssqq", "namespace": "default", "uid": "6f1c5a5e-0000-4000-8000-000000000001"}
REFUSED_METADATA = {"name": "job-stop-test-rssqq", "namespace": "default"}
BLUESHIFT = {"cluster_name": "blueshift", "cluster_zone": "us-central1-a", "project_id": "totoro-project"}
GKE = {**BLUESHIFT, "job": {"apiVersion": "batch/v1", "kind": "Job", "metadata": METADATA}}
GKE_OF_PEER = {**GKE, "job": {**GKE["job"], "spec": {"backoffLimit": 4}, "status": {}}}  # type: ignore[dict-item]
KUBERNETES = {"context": "kind-lab", "job": GKE["job"]}
QUOTA = "the request was refused: Quota exceeded.\n  limit: 8 GPUs"
QUOTA_LINE = "the request was refused: Quota exceeded. limit: 8 GPUs"
NON_ZERO = "The replica master 0 exited with a non-zero status of 1."
TIMES = {"started": "2026-11-25T13:00:00+00:00", "ended": "2026-11-25T14:00:00+00:00"}


@dataclass(frozen=True)
class Row:
    """A stored row, and what is to be read of it.

    Attributes:
        id: of the test.
        platform, status, raw: as stored.
        exit: how the job ended.
        pending: why an unfinished job is in its state.
    """

    id: str
    platform: PlatformId
    status: JobStatus
    raw: JsonObject
    exit: JobExit | None = None
    pending: str | None = None


def ended(code: int | None, cause: FailureCause, message: str | None = None) -> JobExit:
    return JobExit(code, cause, message)


REFUSED, CODE_ERROR = FailureCause.REFUSED, FailureCause.CODE_ERROR
OUT_OF_MEMORY, PREEMPTED, CAUSE_UNKNOWN = FailureCause.OUT_OF_MEMORY, FailureCause.PREEMPTED, FailureCause.UNKNOWN
BY_USER = ended(None, FailureCause.STOPPED)
REMOVED = "its container was removed before its end was recorded"

OF_PEER = [
    Row("local-succeeded", "LOCAL", SUCCEEDED, {"ret_code": 0}, JobExit(0)),
    Row("local-failed", "LOCAL", FAILED, {"ret_code": 1}, ended(1, CODE_ERROR)),
    Row("caip-running", "CAIP", RUNNING, CAIP),
    Row("caip-failed", "CAIP", FAILED, CAIP),
    Row("caip-stopped", "CAIP", STOPPED, CAIP, BY_USER),
    Row("gke-submitted", "GKE", SUBMITTED, GKE_OF_PEER),
    Row("gke-failed", "GKE", FAILED, GKE_OF_PEER),
    Row("gke-succeeded", "GKE", SUCCEEDED, GKE_OF_PEER, JobExit(0)),
]
OF_REVISION_0002 = [
    Row("local-running", "LOCAL", RUNNING, {**NAMES, "container_id": "c0ffee"}),
    Row("local-failed", "LOCAL", FAILED, {**NAMES, "container_id": "c0ffee", "ret_code": 2}, ended(2, CODE_ERROR)),
    Row(
        "local-out-of-memory",
        "LOCAL",
        FAILED,
        {**NAMES, "container_id": "c0ffee", "ret_code": 137, "reason": "out of memory"},
        ended(137, OUT_OF_MEMORY, "out of memory"),
    ),
    Row(
        "local-error-of-docker",
        "LOCAL",
        FAILED,
        {**NAMES, "container_id": "c0ffee", "ret_code": 128, "reason": "cannot mount /data"},
        ended(128, CODE_ERROR, "cannot mount /data"),
    ),
    Row("local-stopped", "LOCAL", STOPPED, {**NAMES, "container_id": "c0ffee"}, BY_USER),
    Row("local-removed", "LOCAL", UNKNOWN, {**NAMES, "reason": REMOVED}, ended(None, CAUSE_UNKNOWN, REMOVED)),
    Row("local-refused", "LOCAL", FAILED, {**NAMES, "ret_code": 125, "error": QUOTA}, ended(None, REFUSED, QUOTA_LINE)),
    Row("local-refused-by-us", "LOCAL", FAILED, {"error": "no docker"}, ended(None, REFUSED, "no docker")),
    Row("caip-failed", "CAIP", FAILED, {**CAIP, "errorMessage": NON_ZERO}, ended(1, CODE_ERROR, NON_ZERO)),
    Row(
        "caip-out-of-memory",
        "CAIP",
        FAILED,
        {
            **CAIP,
            "errorMessage": "The replica master 0 ran out-of-memory and exited with a non-zero status of 9(SIGKILL).",
        },
        ended(
            None,
            OUT_OF_MEMORY,
            "The replica master 0 ran out-of-memory and exited with a non-zero status of 9(SIGKILL).",
        ),
    ),
    Row(
        "caip-stopped",
        "CAIP",
        STOPPED,
        {**CAIP, "errorMessage": "cancelled"},
        ended(None, FailureCause.STOPPED, "cancelled"),
    ),
    Row("caip-refused", "CAIP", FAILED, {**CAIP, "error": QUOTA}, ended(None, REFUSED, QUOTA_LINE)),
    Row("vertex-running", "VERTEX", RUNNING, VERTEX),
    Row(
        "vertex-paused", "VERTEX", RUNNING, {**VERTEX, "state": "JOB_STATE_PAUSED", "reason": "paused"}, None, "paused"
    ),
    Row("vertex-failed", "VERTEX", FAILED, {**VERTEX, "reason": NON_ZERO}, ended(1, CODE_ERROR, NON_ZERO)),
    Row(
        "vertex-preempted",
        "VERTEX",
        FAILED,
        {**VERTEX, "reason": "the machine was preempted"},
        ended(None, PREEMPTED, "the machine was preempted"),
    ),
    Row("vertex-succeeded", "VERTEX", SUCCEEDED, VERTEX),
    Row("vertex-refused", "VERTEX", FAILED, {**VERTEX, "error": QUOTA}, ended(None, REFUSED, QUOTA_LINE)),
    *[
        row
        for platform, job, refused in (
            ("GKE", GKE, {**BLUESHIFT, "job": {"metadata": REFUSED_METADATA}}),
            ("KUBERNETES", KUBERNETES, {"context": "kind-lab", "job": {"metadata": REFUSED_METADATA}}),
        )
        for row in (
            Row(f"{platform}-running", platform, RUNNING, job),
            Row(
                f"{platform}-waiting",
                platform,
                SUBMITTED,
                {**job, "reason": "unschedulable: 0/3 nodes are available"},
                None,
                "unschedulable: 0/3 nodes are available",
            ),
            Row(
                f"{platform}-out-of-memory",
                platform,
                FAILED,
                {**job, "reason": "OOMKilled, exit code 137"},
                ended(137, OUT_OF_MEMORY, "OOMKilled, exit code 137"),
            ),
            Row(
                f"{platform}-failed",
                platform,
                FAILED,
                {**job, "reason": "exit code 3: no data"},
                ended(3, CODE_ERROR, "exit code 3: no data"),
            ),
            Row(
                f"{platform}-evicted",
                platform,
                FAILED,
                {**job, "reason": "Evicted: low on memory"},
                ended(None, FailureCause.INFRASTRUCTURE, "Evicted: low on memory"),
            ),
            Row(f"{platform}-stopped", platform, STOPPED, job, BY_USER),
            Row(
                f"{platform}-refused",
                platform,
                FAILED,
                {**refused, "error": f"the cluster refused the job: {QUOTA}", "reason": QUOTA_LINE},
                ended(None, REFUSED, QUOTA_LINE),
            ),
        )
    ],
]
PRESENT = [
    Row(
        "local-cause",
        "LOCAL",
        FAILED,
        {**NAMES, **TIMES, "container_id": "c0ffee", "ret_code": 0, "cause": "infrastructure"},
        ended(0, FailureCause.INFRASTRUCTURE),
    ),
    Row(
        "caip-cause",
        "CAIP",
        FAILED,
        {**CAIP, **TIMES, "errorMessage": "gone", "cause": "preempted"},
        ended(None, PREEMPTED, "gone"),
    ),
    Row(
        "vertex-cause",
        "VERTEX",
        FAILED,
        {**VERTEX, **TIMES, "reason": "gone", "cause": "preempted"},
        ended(None, PREEMPTED, "gone"),
    ),
    Row(
        "gke-cause",
        "GKE",
        FAILED,
        {**GKE, **TIMES, "ret_code": 137, "cause": "out_of_memory", "reason": "OOMKilled"},
        ended(137, OUT_OF_MEMORY, "OOMKilled"),
    ),
    Row(
        "kubernetes-cause",
        "KUBERNETES",
        FAILED,
        {**KUBERNETES, **TIMES, "ret_code": 1, "cause": "code_error", "reason": "exit code 1"},
        ended(1, CODE_ERROR, "exit code 1"),
    ),
]


def by_id(row: Row) -> str:
    return row.id


def parsed(row: Row) -> JobDetails:
    return parse_details(row.platform, row.status, row.raw)


EVERY_ROW = [
    pytest.param(row, id=f"{version}-{row.id}")
    for version, rows in (("0.4.2", OF_PEER), ("0002", OF_REVISION_0002), ("present", PRESENT))
    for row in rows
]


@pytest.mark.parametrize("row", EVERY_ROW)
def test_the_end_of_a_job_is_read(row: Row) -> None:
    details = parsed(row)
    assert (details.exit, details.pending_reason) == (row.exit, row.pending)


@pytest.mark.parametrize("row", EVERY_ROW)
def test_a_reason_that_is_stored_is_shown(row: Row) -> None:
    stored = any(key in row.raw for key in ("reason", "error", "errorMessage"))
    assert bool(parsed(row).reason) is stored


@pytest.mark.parametrize("row", EVERY_ROW)
def test_the_stored_json_is_kept(row: Row) -> None:
    assert parsed(row).raw == row.raw


@pytest.mark.parametrize("row", PRESENT, ids=by_id)
def test_times_are_read_with_their_time_zone(row: Row) -> None:
    details = parsed(row)
    assert (details.started, details.ended) == (
        datetime(2026, 11, 25, 13, tzinfo=timezone.utc),
        datetime(2026, 11, 25, 14, tzinfo=timezone.utc),
    )


@pytest.mark.parametrize("row", [*OF_PEER, *OF_REVISION_0002], ids=by_id)
def test_earlier_rows_have_no_times(row: Row) -> None:
    assert (parsed(row).started, parsed(row).ended) == (None, None)


@pytest.mark.parametrize(
    ("platform", "raw", "id", "name", "destination"),
    [
        ("LOCAL", {"ret_code": 0}, None, None, {}),
        ("LOCAL", {**NAMES, "container_id": "c0ffee"}, "c0ffee", "caliban-totoro-0123", {}),
        ("CAIP", CAIP, "caliban_totoro_1", "caliban_totoro_1", {"project": "totoro-project"}),
        (
            "VERTEX",
            VERTEX,
            VERTEX["name"],
            "caliban-totoro-0123",
            {"project": "totoro-project", "region": "us-central1"},
        ),
        (
            "GKE",
            GKE_OF_PEER,
            METADATA["uid"],
            "job-stop-test-rssqq",
            {
                "project": "totoro-project",
                "location": "us-central1-a",
                "cluster": "blueshift",
                "namespace": "default",
            },
        ),
        (
            "KUBERNETES",
            KUBERNETES,
            METADATA["uid"],
            "job-stop-test-rssqq",
            {"context": "kind-lab", "namespace": "default"},
        ),
    ],
    ids=["LOCAL-0.4.2", "LOCAL", "CAIP", "VERTEX", "GKE", "KUBERNETES"],
)
def test_id_name_and_destination_are_read(
    platform: PlatformId, raw: JsonObject, id: str | None, name: str | None, destination: JsonObject
) -> None:
    details = parse_details(platform, RUNNING, raw)
    assert details.destination is not None
    assert (details.id, details.display_name, details.destination.to_json()) == (id, name, destination)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("status", list(JobStatus))
def test_details_that_were_not_stored_have_no_reason(platform: PlatformId, status: JobStatus) -> None:
    assert parse_details(platform, status, {}).reason is None


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_refusal_is_read_on_every_platform(platform: PlatformId) -> None:
    details = parse_details(platform, FAILED, {"error": QUOTA})
    assert details.exit == JobExit(None, REFUSED, QUOTA_LINE)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_long_reason_is_shortened_to_one_line(platform: PlatformId) -> None:
    reason = parse_details(platform, FAILED, {"error": "no quota\n" * 1000}).reason
    assert reason is not None
    assert (len(reason) <= 310, "\n" in reason, reason.startswith("no quota no quota")) == (True, False, True)


@pytest.mark.parametrize("status", list(JobStatus))
def test_details_of_an_unknown_platform_have_no_typed_values(status: JobStatus, unknown_platform: PlatformId) -> None:
    assert parse_details(unknown_platform, status, {"reason": "x"}) == JobDetails({"reason": "x"})


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("code", [True, 1.5, "1", None, [1]])
def test_an_exit_code_that_is_not_an_integer_is_ignored(platform: PlatformId, code: object) -> None:
    details = parse_details(platform, FAILED, {"ret_code": code, "cause": "preempted", "reason": "x"})
    assert details.exit is None or details.exit.code is None


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_exit_code_of_any_length_in_a_message_is_read(platform: PlatformId) -> None:
    message = f"exit code {'9' * 5000}: exited with a non-zero status of {'9' * 5000}"
    details = parse_details(platform, FAILED, {"errorMessage": message, "reason": message})
    assert details.reason is not None


_KEYS = [
    *("name", "host", "container_id", "ret_code", "reason", "error", "errorMessage", "jobId", "project_id", "region"),
    *("displayName", "state", "cluster_name", "cluster_zone", "context", "job", "metadata", "uid", "namespace"),
    *("started", "ended", "cause"),
]
_TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["OOMKilled, exit code 137", "preempted", "exit code 99999999999", "timeout", "2026-02-30T00:00:00Z", " \n "]
    ),
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)),
    max_leaves=8,
)


@given(
    st.sampled_from(PLATFORMS),
    st.sampled_from(list(JobStatus)),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8),
)
def test_malformed_details_never_raise(platform: PlatformId, status: JobStatus, raw: dict[str, object]) -> None:
    details = parse_details(platform, status, raw)
    texts = (details.id, details.display_name, details.reason, details.pending_reason)
    assert all(text is None or isinstance(text, str) for text in texts)
    assert details.reason is None or len(details.reason.splitlines()) == 1
    for time in (details.started, details.ended):
        assert time is None or time.tzinfo is not None
    if details.exit:
        assert details.exit.cause is None or isinstance(details.exit.cause, FailureCause)
        assert details.exit.code is None or type(details.exit.code) is int
    hash(details)
