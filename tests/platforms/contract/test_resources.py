"""Re-runs with other resources, on each platform that can change them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.errors import PlatformError, UsageError
from caliban.platforms.base import Platform
from caliban.platforms.resources import ChangesResources, ResourceRequest, setting_changes
from caliban.records import JobRecord
from tests.fake_service import may_send
from tests.platforms.contract.case import ContractCase
from tests.sampling import examples

VALUES: Mapping[str, object] = {
    "machine_type": "n1-standard-16",
    "gpu_spec": "2",
    "nogpu": True,
    "min_cpu": 2000,
    "min_mem": 8000,
    "spot": True,
    "nonpreemptible": True,
    "timeout": 7200,
    "region": "europe-west4",
    "docker_run_args": "-e RETRY=1",
}


def request_for(case: ContractCase, **changes: object) -> ResourceRequest:
    return ResourceRequest(case.directory, **changes)  # type: ignore[arg-type]


def resizing(case: ContractCase) -> ChangesResources:
    platform: Platform = case.platform
    assert isinstance(platform, ChangesResources)
    return platform


def changed(case: ContractCase, job: JobRecord, **changes: object) -> JobRecord:
    made = resizing(case).with_resources(job, request_for(case, **changes))
    return replace(job, spec=made.spec, details=made.details)


def values_of(case: ContractCase) -> dict[str, object]:
    """A value for each flag of the platform."""
    found = {name: VALUES[name] for name in sorted(resizing(case).resource_flags)}
    if "gpu_spec" in found and case.platform.id in ("VERTEX", "CAIP"):
        found["gpu_spec"] = "2xT4"
    return found


def test_every_flag_is_one_that_a_rerun_takes(resizing_case: ContractCase) -> None:
    assert resizing(resizing_case).resource_flags <= VALUES.keys()


def test_a_job_with_each_changed_resource_is_submitted_where_it_says(resizing_case: ContractCase) -> None:
    case = resizing_case
    job = case.submit()
    for name, value in values_of(case).items():
        made = changed(case, job, **{name: value})
        case.destination = case.platform.destination(made)
        before = case.started()
        case.platform.submit(made.spec, case.submission(made.spec), may_send)
        assert case.started() == before + 1, name


def test_the_same_request_again_changes_nothing_more(resizing_case: ContractCase) -> None:
    job = resizing_case.submit()
    for name, value in values_of(resizing_case).items():
        once = changed(resizing_case, job, **{name: value})
        assert changed(resizing_case, once, **{name: value}) == once, name


def test_the_image_and_the_arguments_stay(resizing_case: ContractCase) -> None:
    case = resizing_case
    job = case.submit()
    for name, value in values_of(case).items():
        made = changed(case, job, **{name: value})
        text = json.dumps(made.spec)
        assert case.images[0] in text
        assert '"--foo", "3"' in text


def test_the_settings_say_what_changed(resizing_case: ContractCase) -> None:
    case = resizing_case
    job = case.submit()
    platform = resizing(case)
    before = platform.resource_settings(job.spec, job.details)
    for name, value in values_of(case).items():
        made = changed(case, job, **{name: value})
        after = platform.resource_settings(made.spec, made.details)
        assert bool(list(setting_changes(before, after))) == (made.spec != job.spec or made.details != job.details)


def test_no_recorded_spec_is_changed_in_place(resizing_case: ContractCase) -> None:
    job = resizing_case.submit()
    before = json.dumps(job.spec)
    for name, value in values_of(resizing_case).items():
        changed(resizing_case, job, **{name: value})
    assert json.dumps(job.spec) == before


def test_more_memory_is_more_than_before_or_the_error_says_what_to_write(resizing_case: ContractCase) -> None:
    case = resizing_case
    job = case.submit()
    try:
        outcome: object = changed(case, job, more_memory=Decimal(2)).spec != job.spec
    except UsageError as error:
        outcome = (error.id, "--" in (error.hint or ""))
    assert outcome in (True, ("no-memory-recorded", True))


def test_settings_of_any_spec_are_texts(resizing_case: ContractCase) -> None:
    job = resizing_case.submit()
    platform = resizing(resizing_case)
    leaves = st.none() | st.booleans() | st.integers() | st.sampled_from(["", "9" * 5000, "true", "-m", "1Gi", "x"])

    def damaged(value: object, data: st.DataObject) -> object:
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.just("name"), leaves))
        if isinstance(value, dict):
            return {key: damaged(inner, data) for key, inner in value.items()}
        return [damaged(inner, data) for inner in value] if isinstance(value, list) else value

    @settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        spec = damaged(json.loads(json.dumps(job.spec)), data)
        found = platform.resource_settings(spec if isinstance(spec, dict) else {}, job.details)
        assert all(value is None or isinstance(value, str) for value in found.values())

    check()


@pytest.mark.parametrize("spec", [{}, {"image": "lab:1"}, {"jobSpec": 1}, {"template": {"spec": None}}, {"command": 1}])
def test_malformed_specs_are_an_error_and_have_settings(resizing_case: ContractCase, spec: dict[str, Any]) -> None:
    job = replace(resizing_case.submit(), spec=spec)
    name, value = next(iter(values_of(resizing_case).items()))
    with pytest.raises(PlatformError) as caught:
        changed(resizing_case, job, **{name: value})
    assert caught.value.id == "malformed-job-spec"
    assert set(resizing(resizing_case).resource_settings(spec, job.details).values()) <= {None, "off", "us-central1"}
