"""The story on a shared store: PostgreSQL, named by CALIBAN_DB_URL."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import RUN, Researcher


@pytest.fixture
def sharing(researcher: Researcher, postgresql_url: str) -> Researcher:
    researcher.environ["CALIBAN_DB_URL"] = postgresql_url.replace("postgresql+psycopg", "postgresql")
    return researcher


def test_a_failed_experiment_is_rerun_from_a_shared_store(sharing: Researcher) -> None:
    ran = sharing.caliban(*RUN)
    sharing.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = sharing.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")
    status = sharing.caliban("status", "--xgroup", "resubmit_test")

    assert (ran.code, resubmitted.code) == (1, 0), resubmitted.err
    assert "job 1        SUCCEEDED" in status.out
    assert "job 3        SUCCEEDED" in status.out
    assert not sharing.store.exists(), "nothing falls back to another store"


def test_groups_of_different_users_may_have_the_same_name(sharing: Researcher) -> None:
    sharing.caliban(*RUN)

    answer = sharing.caliban("resubmit", "--xgroup", "resubmit_test", USER="mei")

    assert answer.code == 1
    assert "mei has no experiment group resubmit_test [unknown-xgroup]" in answer.err
