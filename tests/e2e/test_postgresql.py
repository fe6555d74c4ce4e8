"""The walkthrough with a shared store: PostgreSQL, set by CALIBAN_DB_URL."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import RUN, Researcher


@pytest.fixture
def shared_store(researcher: Researcher, postgresql_url: str) -> Researcher:
    researcher.environ["CALIBAN_DB_URL"] = postgresql_url.replace("postgresql+psycopg", "postgresql")
    return researcher


def test_a_failed_experiment_is_rerun_from_a_shared_store(shared_store: Researcher) -> None:
    ran = shared_store.caliban(*RUN)
    shared_store.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = shared_store.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")
    status = shared_store.caliban("status", "--xgroup", "resubmit_test")

    assert (ran.code, resubmitted.code) == (1, 0), resubmitted.err
    assert "job 1        SUCCEEDED" in status.out
    assert "job 3        SUCCEEDED" in status.out
    assert not shared_store.store.exists(), "no other store is created"


def test_groups_of_different_users_may_have_the_same_name(shared_store: Researcher) -> None:
    shared_store.caliban(*RUN)

    result = shared_store.caliban("resubmit", "--xgroup", "resubmit_test", USER="mei")

    assert result.code == 1
    assert 'mei has no experiment group "resubmit_test" [unknown-xgroup]' in result.err
