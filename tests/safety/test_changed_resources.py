"""Re-runs with other resources that are killed: typed again, the rest is submitted, and nothing is changed twice."""

from __future__ import annotations

import json

import pytest

from tests.safety.sandbox import RESUBMIT, Sandbox
from tests.safety.services import SERVICES
from tests.safety.tracing import Point

LARGER = (*RESUBMIT, "--machine_type", "n1-standard-8", "--force")
MORE = (*RESUBMIT, "--more_memory", "2")
CREATE = "POST service"


def with_failures(sandbox: Sandbox) -> None:
    sandbox.submit()
    sandbox.end_jobs("FAILED")
    sandbox.caliban(*LARGER)
    sandbox.end_jobs("FAILED")
    sandbox.advance_clock()


def machines(sandbox: Sandbox) -> list[str]:
    """The machine type in the newest job spec of each experiment that a job was made from."""
    rows = sandbox.rows(
        "SELECT spec FROM job_specs WHERE id IN (SELECT max(job_spec_id) FROM jobs GROUP BY experiment_id) ORDER BY id"
    )
    specs = (row[0] if isinstance(row[0], str) else json.dumps(row[0]) for row in rows)
    return [next(word for word in spec.split('"') if word.startswith("n1-")) for spec in specs]


@pytest.mark.slow
@pytest.mark.parametrize("service_name", ["AI Platform", "Vertex AI"])
@pytest.mark.parametrize(
    ("where", "what", "number"),
    [
        *(("before", "commit", number) for number in (1, 3, 5)),
        *((where, CREATE, number) for where in ("before", "after") for number in (1, 2)),
    ],
)
def test_more_memory_that_is_killed_is_completed_when_it_is_typed_again(
    sqlite_sandbox: Sandbox, where: str, what: str, number: int
) -> None:
    sandbox = sqlite_sandbox
    with_failures(sandbox)
    assert machines(sandbox) == ["n1-standard-8"] * 2
    killed = sandbox.caliban(*MORE, point=Point(where, 0, what, number))

    again = sandbox.caliban(*MORE)

    assert (killed.code < 0, again.code) == (True, 0), (killed, again)
    assert sandbox.inconsistencies() == []
    assert machines(sandbox) == ["n1-standard-16"] * 2
    assert set(sandbox.jobs_per_experiment().values()) == {3}


@pytest.mark.parametrize("service_name", SERVICES)
def test_another_machine_is_requested_once_for_each_experiment(sqlite_sandbox: Sandbox) -> None:
    sandbox = sqlite_sandbox
    sandbox.submit()
    sandbox.end_jobs("FAILED")
    done = sandbox.caliban(*LARGER)
    assert done.code == 0, done
    assert machines(sandbox) == ["n1-standard-8"] * 2
    assert (sandbox.experiment_count(), set(sandbox.jobs_per_experiment().values())) == (2, {2})
