"""What quotas and limit ranges of a namespace add to a job, and which jobs can never run there."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.errors import UsageError
from caliban.platforms.kubernetes.namespace_rules import NamespaceRules, Resources, counting


def quota(spec: dict[str, Any] | None = None, **hard: str) -> dict[str, Any]:
    amounts = {key.replace("_", ".", 1): value for key, value in hard.items()}
    return {"metadata": {"name": "compute"}, "spec": {"hard": amounts, **(spec or {})}}


def limits(type: str = "Container", **rules: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "range"}, "spec": {"limits": [{"type": type, **rules}]}}


def fitted(
    rules: list[dict[str, Any]],
    requests: dict[str, str] | None = None,
    limit: dict[str, str] | None = None,
    *chosen: str,
) -> tuple[dict[str, str], dict[str, str]]:
    quotas = [each for each in rules if "hard" in each["spec"]]
    ranges = [each for each in rules if "limits" in each["spec"]]
    made = NamespaceRules(quotas, ranges).fitted(Resources(requests or {}, limit or {}), frozenset(chosen))
    return dict(made.requests), dict(made.limits)


COMPUTE = quota(limits_cpu="8", limits_memory="32Gi", requests_cpu="4", requests_memory="16Gi")
GPU_QUOTA, NO_GPUS = ({"metadata": {"name": "compute"}, "spec": {"hard": {"requests.nvidia.com/gpu": n}}} for n in "10")


@pytest.mark.parametrize(
    ("rules", "requests", "limit", "expected"),
    [
        ([], {}, {}, ({}, {})),
        ([COMPUTE], {}, {}, ({}, {"cpu": "1500m", "memory": "4000M"})),
        ([COMPUTE], {"memory": "2000M"}, {}, ({"memory": "2000M"}, {"cpu": "1500m", "memory": "2000M"})),
        ([COMPUTE], {}, {"memory": "500M"}, ({}, {"memory": "500M", "cpu": "1500m"})),
        ([COMPUTE], {"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}, ({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"})),
        ([quota(cpu="4")], {}, {}, ({"cpu": "1500m"}, {})),
        ([quota(requests_memory="1Gi")], {}, {}, ({"memory": "1Gi"}, {})),
        ([quota(limits_cpu="1", limits_memory="1Gi")], {}, {}, ({}, {"cpu": "1", "memory": "1Gi"})),
        ([quota(pods="4", count_jobs="4")], {}, {}, ({}, {})),
        # a limit range has defaults of its own
        ([COMPUTE, limits(default={"cpu": "1", "memory": "1Gi"})], {}, {}, ({}, {})),
        ([COMPUTE, limits(max={"cpu": "1", "memory": "1Gi"})], {}, {}, ({}, {})),
        ([quota(requests_cpu="4"), limits(min={"cpu": "1"})], {}, {}, ({}, {})),
        ([COMPUTE, limits(default={"cpu": "1"})], {}, {}, ({}, {"memory": "4000M"})),
        # a request above the default limit needs a limit
        ([limits(default={"cpu": "1"})], {"cpu": "2000m"}, {}, ({"cpu": "2000m"}, {"cpu": "2000m"})),
        ([limits(default={"cpu": "1"})], {"cpu": "500m"}, {}, ({"cpu": "500m"}, {})),
        # the default of GKE is more than the namespace allows
        ([limits(max={"cpu": "2"})], {"cpu": "31000m"}, {}, ({"cpu": "2"}, {})),
        ([quota(limits_cpu="8")], {"cpu": "31000m"}, {}, ({"cpu": "8"}, {"cpu": "8"})),
        # ratios
        ([limits(maxLimitRequestRatio={"cpu": "2"})], {}, {}, ({}, {"cpu": "1500m"})),
        ([limits(maxLimitRequestRatio={"cpu": "2"})], {"cpu": "1"}, {}, ({"cpu": "1"}, {"cpu": "1"})),
        (
            [limits(maxLimitRequestRatio={"cpu": "2"}, default={"cpu": "1"}, defaultRequest={"cpu": "100m"})],
            {},
            {},
            ({"cpu": "1"}, {}),
        ),
        (
            [limits(maxLimitRequestRatio={"cpu": "2"}, defaultRequest={"cpu": "100m"})],
            {"cpu": "1"},
            {"cpu": "2"},
            ({"cpu": "1"}, {"cpu": "2"}),
        ),
        ([limits("Pod", maxLimitRequestRatio={"memory": "1"})], {}, {}, ({}, {"memory": "4000M"})),
        ([quota(limits_memory="8Gi"), limits("Pod", max={"memory": "1Gi"})], {}, {}, ({}, {"memory": "1Gi"})),
        ([quota(limits_memory="8Gi"), limits(min={"memory": "6Gi"})], {}, {}, ({}, {"memory": "6Gi"})),
    ],
)
def test_what_is_missing_is_added(
    rules: list[dict[str, Any]],
    requests: dict[str, str],
    limit: dict[str, str],
    expected: tuple[dict[str, str], dict[str, str]],
) -> None:
    assert fitted(rules, requests, limit) == expected


@pytest.mark.parametrize(
    ("rules", "requests", "limit", "id"),
    [
        ([quota(requests_cpu="4")], {"cpu": "5"}, {}, "above-quota"),
        ([quota(cpu="4")], {"cpu": "5"}, {}, "above-quota"),
        ([quota(requests_memory="1Gi")], {}, {"memory": "2Gi"}, "above-quota"),
        ([quota(limits_memory="1Gi")], {"memory": "100M"}, {"memory": "2Gi"}, "above-quota"),
        ([GPU_QUOTA], {}, {"nvidia.com/gpu": "2"}, "above-quota"),
        ([NO_GPUS], {}, {"nvidia.com/gpu": "1"}, "above-quota"),
        ([limits(max={"cpu": "1"})], {"cpu": "2"}, {}, "outside-limit-range"),
        ([limits(max={"cpu": "1"})], {}, {"cpu": "2"}, "outside-limit-range"),
        ([limits("Pod", max={"memory": "1Gi"})], {"memory": "2Gi"}, {}, "outside-limit-range"),
        ([limits(min={"cpu": "1"})], {"cpu": "500m"}, {}, "outside-limit-range"),
        ([limits(min={"memory": "1Gi"})], {}, {"memory": "500M"}, "outside-limit-range"),
        ([limits(maxLimitRequestRatio={"cpu": "2"})], {"cpu": "1"}, {"cpu": "3"}, "outside-limit-range"),
    ],
)
def test_what_can_never_run_is_refused(
    rules: list[dict[str, Any]], requests: dict[str, str], limit: dict[str, str], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        fitted(rules, requests, limit, *requests)
    assert caught.value.id == id
    assert "compute" in str(caught.value.cause) or "range" in str(caught.value.cause)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"spec": None},
        {"spec": {"hard": {"limits.cpu": "many"}}},
        {"spec": {"hard": [], "scopes": "Terminating"}},
        {"spec": {"limits": [None, {"type": "Container", "max": {"cpu": {}}}, {"type": "PersistentVolumeClaim"}]}},
    ],
)
def test_rules_of_an_unknown_shape_are_ignored(odd: dict[str, Any]) -> None:
    assert NamespaceRules([odd], [odd]).fitted(Resources({}, {})) == Resources({}, {})


def scoped(name: str, operator: str, *values: str) -> dict[str, Any]:
    return {"scopeSelector": {"matchExpressions": [{"scopeName": name, "operator": operator, "values": list(values)}]}}


WITH_LIMIT = {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}


@pytest.mark.parametrize(
    ("scope", "pod", "counts"),
    [
        ({}, {}, True),
        ({"scopes": ["NotTerminating"]}, {}, True),
        ({"scopes": ["NotTerminating"]}, {"activeDeadlineSeconds": 5}, False),
        ({"scopes": ["Terminating"]}, {}, False),
        ({"scopes": ["BestEffort"]}, WITH_LIMIT, False),
        ({"scopes": ["NotBestEffort"]}, WITH_LIMIT, True),
        ({"scopes": ["NotBestEffort"]}, {"containers": [{}]}, False),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, WITH_LIMIT, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
        ({"scopes": "NotTerminating"}, {}, False),
        (scoped("PriorityClass", "Exists"), {}, False),
        (scoped("PriorityClass", "Exists"), {"priorityClassName": "high"}, True),
        (scoped("PriorityClass", "DoesNotExist"), {}, True),
        (scoped("PriorityClass", "In", "high"), {"priorityClassName": "high"}, True),
        (scoped("PriorityClass", "In", "high"), {"priorityClassName": "low"}, False),
        (scoped("PriorityClass", "NotIn", "high"), {"priorityClassName": "low"}, True),
        (scoped("PriorityClass", "In", "high"), {}, False),
        (scoped("PriorityClass", "Similar", "high"), {"priorityClassName": "high"}, False),
    ],
)
def test_quotas_count_by_their_scopes(scope: dict[str, Any], pod: dict[str, Any], counts: bool) -> None:
    made = quota(scope, limits_cpu="1")
    assert counting([made], pod) == ([made] if counts else [])
