"""Job specs, names, destinations and details: what is recorded, and what users may type."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.config import ProjectConfig
from caliban.errors import PlatformError
from caliban.platforms.registry import details_at
from caliban.records import JobDetails, JobStatus, JsonObject
from tests.fake_service import may_send
from tests.platforms.contract.case import ContractCase
from tests.sampling import examples

ARGUMENTS = ("--foo", "3", "--sleep", "1")
ODD_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
USERS = ODD_TEXT | st.sampled_from(["totoro@example.com", "LAB\\totoro", "-", "123", "x" * 300, "龍猫", "to.to_ro-"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
STORED_KEYS = [
    "name",
    "host",
    "jobId",
    "displayName",
    "project_id",
    "region",
    "context",
    "namespace",
    "directory",
    "job",
    "ret_code",
    "error",
    "errorMessage",
    "reason",
    "cause",
    "started",
    "ended",
    "state",
    "cluster_name",
    "cluster_zone",
    "container_id",
    "remove_when_ended",
]
WITHOUT_FLAGS = ("LOCAL", "SUBPROCESS")
"""Platforms on which no flag says where a job runs."""

KEYS = st.text() | st.sampled_from(STORED_KEYS)
in_one_case = settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
"""A case serves many examples: none of them changes it."""


def test_another_image_changes_nothing_else(case: ContractCase) -> None:
    image, other = case.images
    spec = case.spec()
    changed = case.platform.with_image(spec, other)
    assert changed != spec
    assert image not in json.dumps(changed)
    assert case.platform.with_image(changed, image) == spec


def test_the_same_image_changes_nothing(case: ContractCase) -> None:
    spec = case.spec()
    assert case.platform.with_image(spec, case.images[0]) == spec


def test_other_arguments_make_the_spec_that_the_command_would_make(case: ContractCase) -> None:
    made = case.platform.with_arguments(case.spec(), case.images[0], ARGUMENTS)
    assert arguments_in(made) == arguments_in(case.spec(arguments=ARGUMENTS))


def test_other_arguments_arrive_byte_for_byte(case: ContractCase) -> None:
    odd = ["--a", "two  words", "--b=\"'", "ä☃龍", "", "$HOME;`x`", "a\n\tb\\", "--", "-1"]
    changed = case.platform.with_arguments(case.spec(), case.images[0], odd)
    in_order = arguments_in(changed)
    assert any(in_order[start : start + len(odd)] == odd for start in range(len(in_order)))


def arguments_in(spec: object) -> list[object]:
    """Return the texts of all lists of a spec: the command line, wherever the platform has it."""
    values = spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ()
    own = [value for value in values if isinstance(value, str)] if isinstance(spec, list) else []
    return own + [text for value in values for text in arguments_in(value)]


def test_the_recorded_spec_is_not_changed_in_place(case: ContractCase) -> None:
    spec = case.spec()
    before = json.dumps(spec)
    case.platform.with_image(spec, case.images[1])
    case.platform.with_arguments(spec, case.images[1], ARGUMENTS)
    assert json.dumps(spec) == before


@pytest.mark.parametrize("spec", [{}, {"image": "lab:1"}, {"command": "docker run lab:1"}, {"jobId": 1, "x": None}])
def test_malformed_specs_are_an_error(case: ContractCase, spec: JsonObject) -> None:
    with pytest.raises(PlatformError) as image:
        case.platform.with_image(spec, case.images[0])
    with pytest.raises(PlatformError) as arguments:
        case.platform.with_arguments(spec, case.images[0], ARGUMENTS)
    assert (image.value.id, arguments.value.id) == ("malformed-job-spec", "malformed-job-spec")


def test_a_changed_spec_can_be_submitted(case: ContractCase) -> None:
    spec = case.platform.with_arguments(case.spec(), case.images[0], ARGUMENTS)
    case.platform.submit(spec, case.submission(spec), may_send)
    assert case.started() == 1


def test_specs_are_json(case: ContractCase) -> None:
    spec = case.spec()
    assert json.loads(json.dumps(spec)) == spec


def test_names_of_two_submissions_differ(case: ContractCase) -> None:
    spec = case.spec()
    assert case.platform.job_name(spec, "0" * 32) != case.platform.job_name(spec, "f" * 32)


def test_names_and_labels_of_odd_users_groups_and_arguments_are_accepted(case: ContractCase) -> None:
    @in_one_case
    @given(user=USERS, group=ODD_TEXT, arguments=st.lists(ODD_TEXT, max_size=4), flag=ODD_TEXT)
    def check(user: str, group: str, arguments: list[str], flag: str) -> None:
        before = case.started()
        spec = case.spec(user, [*arguments, f"--{flag}", "1"])
        case.platform.submit(spec, case.submission(spec, group=group), may_send)
        assert case.started() == before + 1

    check()


def test_a_destination_is_hashable_and_read_as_it_was_written(case: ContractCase) -> None:
    read: Any = case.destination
    again = type(read).from_json(json.loads(json.dumps(read.to_json())))
    assert again == case.destination
    assert hash(again) == hash(case.destination)


def test_a_rerun_goes_where_the_last_attempt_ran(case: ContractCase) -> None:
    assert case.new_platform().destination(case.submit()) == case.destination


def test_an_experiment_without_a_job_goes_where_it_was_to_be_submitted(case: ContractCase) -> None:
    job = case.submit()
    found = details_at(case.platform.id, json.loads(json.dumps(case.destination.to_json())))
    never_ran = replace(job, id=0, status=JobStatus.SUBMITTED, details=found)
    assert case.new_platform().destination(never_ran) == case.destination


def test_a_malformed_destination_is_none(case: ContractCase) -> None:
    @in_one_case
    @given(st.dictionaries(st.sampled_from(["project", "region", "namespace", "context", "cluster", "engine"]), JSON))
    def check(destination: JsonObject) -> None:
        assert isinstance(type(case.platform).details_at(destination), JobDetails)

    check()


def test_a_platform_without_images_has_no_registry(case: ContractCase) -> None:
    if not case.platform.needs_image:
        assert case.platform.image_registry(ProjectConfig(), case.destination) is None


def test_a_launcher_has_the_flag_for_images_that_it_names(case: ContractCase) -> None:
    options = case.context().options
    assert case.launcher.image_flag is None or case.launcher.image_flag in options
    assert (case.launcher.image_flag is None) == (not case.platform.needs_image)


def test_what_is_known_of_the_destination_without_a_connection_is_right(case: ContractCase) -> None:
    known = case.launch().chosen()
    assert known.items() <= case.destination.to_json().items()
    assert known or case.platform.id in WITHOUT_FLAGS


def test_the_launch_is_for_the_platform(case: ContractCase) -> None:
    assert case.launch().platform == case.platform.id


def test_details_of_any_shape_are_read(case: ContractCase) -> None:
    @in_one_case
    @given(status=st.sampled_from(JobStatus), raw=st.dictionaries(KEYS, JSON))
    def check(status: JobStatus, raw: JsonObject) -> None:
        details = case.platform.parse_details(status, raw)
        assert isinstance(details, JobDetails)
        assert details.raw == raw
        assert details.reason is None or "\n" not in details.reason
        hash(details)

    check()
