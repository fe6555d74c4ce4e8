"""Quotas and limit ranges of a namespace, and what they require of a job. Pure.

A quota for CPU or memory makes the API server refuse pods without a request or limit of it; a limit range sets limits
that a request may exceed, or requires a ratio. What is missing is added; what can never run is an error.

Sources: https://kubernetes.io/docs/concepts/policy/resource-quotas/, https://kubernetes.io/docs/concepts/policy/limit-range/;
the order of defaults is that of Kubernetes 1.36 (SetDefaults_LimitRangeItem; plugin/pkg/admission/limitranger;
pkg/quota/v1/evaluator/core/pods.go: validationSet).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from caliban.errors import UsageError
from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.platforms.kubernetes.quantities import amount
from caliban.records import JsonObject

DEFAULTS: Mapping[str, str] = {"cpu": "1500m", "memory": "4000M"}
"""What a job gets where the namespace requires a request or limit, and neither the user nor the namespace has one."""

_FLAGS = {"cpu": ("--min_cpu", "--limit_cpu"), "memory": ("--min_mem", "--limit_mem")}


@dataclass(frozen=True)
class Bound:
    """An amount that a namespace sets.

    Attributes:
        by: what sets it: ``quota compute``.
        text: the amount: ``8Gi``.
    """

    by: str
    text: str

    @property
    def value(self) -> Decimal:
        """In bytes, or CPUs."""
        found = amount(self.text)
        assert found is not None
        return found


@dataclass(frozen=True)
class Resources:
    """Requests and limits of a container, by resource."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]

    @classmethod
    def of(cls, container: JsonObject) -> Resources:
        """Return those of a container."""
        found = object_at(container, "resources")
        requests, limits = (object_at(found, name) for name in ("requests", "limits"))
        return cls({k: str(v) for k, v in requests.items()}, {k: str(v) for k, v in limits.items()})

    def changed(self, resource: str, request: str | None, limit: str | None) -> Resources:
        """Return these with another request and limit; None to keep them."""
        requests = {**self.requests, **({} if request is None else {resource: request})}
        limits = {**self.limits, **({} if limit is None else {resource: limit})}
        return Resources(requests, limits)

    def __str__(self) -> str:
        parts = [f"{name} {text}" for name, text in self.requests.items()]
        parts += [f"{name} limit {text}" for name, text in self.limits.items() if name in DEFAULTS]
        return ", ".join(parts)


@dataclass(frozen=True)
class NamespaceRules:
    """What a namespace requires of pods.

    Attributes:
        quotas: its ResourceQuotas that count for these pods; see :func:`counting`.
        ranges: its LimitRanges.
    """

    quotas: Sequence[JsonObject] = ()
    ranges: Sequence[JsonObject] = ()

    def fitted(self, resources: Resources, chosen: frozenset[str] = frozenset()) -> Resources:
        """Return the resources with what is missing.

        Args:
            resources: those of the job's only container.
            chosen: the resources whose requests the user chose: the other ones are defaults, which may be reduced.

        Raises:
            UsageError: ``above-quota``, ``outside-limit-range``: its pod can never be created.
        """
        for name in DEFAULTS:
            resources = self._fitted_in(name, resources, is_chosen=name in chosen)
        for name, count in resources.limits.items():
            if "/" in name:
                self._check_quota(f"requests.{name}", count, "request fewer, or none with --nogpu")
        return resources

    def _fitted_in(self, name: str, given: Resources, *, is_chosen: bool) -> Resources:
        upper = [*self._of_ranges("max", name), *self._hard(f"requests.{name}"), *self._hard(name)]
        request, limit = given.requests.get(name), given.limits.get(name)
        if request is not None and limit is None and not is_chosen:
            request = _least([request, *(each.text for each in (*upper, *self._hard(f"limits.{name}")))])
            given = given.changed(name, request, None)
        effective_limit = limit or self._default("default", "max", name)
        effective = request or limit or self._default("defaultRequest", "min", name) or effective_limit
        needs_ratio = bool(list(self._of_ranges("maxLimitRequestRatio", name)))
        if effective_limit is None and (needs_ratio or list(self._hard(f"limits.{name}"))):
            limit = effective_limit = effective or self._usual(name)
            effective = effective or limit
        elif effective is None and (needs_ratio or list(self._hard(f"requests.{name}")) or list(self._hard(name))):
            request = effective = self._usual(name)
        elif limit is None and effective_limit is not None and _more(request, effective_limit):
            limit = effective_limit = request
        request, limit = self._in_ratio(name, given, request, limit, effective, effective_limit)
        fitted = given.changed(name, request, limit)
        self._check(name, fitted)
        return fitted

    def _in_ratio(
        self,
        name: str,
        given: Resources,
        request: str | None,
        limit: str | None,
        effective: str | None,
        effective_limit: str | None,
    ) -> tuple[str | None, str | None]:
        """Return request and limit, equal where their ratio would be too large and the user did not choose both."""
        for bound in self._of_ranges("maxLimitRequestRatio", name):
            low, high = amount(effective), amount(effective_limit)
            if low is None or high is None or high <= low * bound.value:
                continue
            if name not in given.requests:
                request = effective = effective_limit
            elif name not in given.limits:
                limit = effective_limit = effective
            else:
                raise _outside(
                    name, f"a limit of {effective_limit} is more than {bound.text} times the request {effective}", bound
                )
        return request, limit

    def _usual(self, name: str) -> str:
        """Return the default, not more than is allowed, and not less."""
        limits = [*self._of_ranges("max", name), *self._hard(f"requests.{name}"), *self._hard(name)]
        least = _least([DEFAULTS[name], *(each.text for each in (*limits, *self._hard(f"limits.{name}")))])
        lowest = [each.text for each in self._of_ranges("min", name)]
        return max([least, *lowest], key=lambda text: amount(text) or Decimal(0))

    def _check(self, name: str, resources: Resources) -> None:
        """Check what the user chose."""
        request, limit = resources.requests.get(name), resources.limits.get(name)
        for flag, text, keys in zip(
            _FLAGS[name], (request or limit, limit), ((f"requests.{name}", name), (f"limits.{name}",)), strict=True
        ):
            for key in keys:
                if text is not None:
                    self._check_quota(key, text, f"request less: {flag}")
        for bound in self._of_ranges("max", name):
            if _more(limit or request, bound.text):
                raise _outside(name, f"{limit or request} is more than the maximum {bound.text}", bound)
        for bound in self._of_ranges("min", name):
            lowest = request or limit
            if lowest is not None and _more(bound.text, lowest):
                raise _outside(name, f"{lowest} is less than the minimum {bound.text}", bound)

    def _check_quota(self, key: str, text: str, hint: str) -> None:
        for bound in self._hard(key):
            if _more(text, bound.text):
                raise UsageError(
                    "above-quota",
                    f"a job with {key} {text} can never run in this namespace",
                    cause=f"its {bound.by} allows {bound.text} in all",
                    hint=hint,
                )

    def _hard(self, key: str) -> Iterator[Bound]:
        """Yield what quotas allow in all."""
        for quota in self.quotas:
            yield from _bounds(f"quota {_name(quota)}", object_at(quota, "spec", "hard"), key)

    def _of_ranges(self, rule: str, name: str, *types: str) -> Iterator[Bound]:
        for each in self.ranges:
            for item in objects_in(object_at(each, "spec"), "limits"):
                if item.get("type") in (types or ("Container", "Pod")):
                    yield from _bounds(f"limit range {_name(each)}", object_at(item, rule), name)

    def _default(self, rule: str, fallback: str, name: str) -> str | None:
        """Return what a limit range sets where a container has none."""
        rules = (rule, "default", fallback) if rule == "defaultRequest" else (rule, fallback)
        found = (bound.text for each in rules for bound in self._of_ranges(each, name, "Container"))
        return next(found, None)


def counting(quotas: Iterable[JsonObject], pod: JsonObject) -> list[JsonObject]:
    """Return the quotas that count for a pod by their scopes; of those that cannot be understood, nothing is required.

    Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes

    Args:
        quotas: of its namespace.
        pod: the spec of the pod.
    """
    resources = [Resources.of(each) for each in objects_in(pod, "containers")]
    has_resources = any(each.requests or each.limits for each in resources)
    facts = {
        "Terminating": pod.get("activeDeadlineSeconds") is not None,
        "NotTerminating": pod.get("activeDeadlineSeconds") is None,
        "BestEffort": not has_resources,
        "NotBestEffort": has_resources,
        "PriorityClass": bool(pod.get("priorityClassName")),
    }
    return [each for each in quotas if all(_scopes(object_at(each, "spec"), facts, pod.get("priorityClassName")))]


def _scopes(spec: JsonObject, facts: Mapping[str, bool], priority: object) -> Iterator[bool]:
    """Yield for each scope of a quota whether a pod is in it."""
    scopes = spec.get("scopes") or []
    yield from (facts.get(str(each), False) for each in (scopes if isinstance(scopes, list) else [""]))
    for rule in objects_in(object_at(spec, "scopeSelector"), "matchExpressions"):
        values, is_there = rule.get("values"), facts.get(str(rule.get("scopeName")), False)
        is_named = isinstance(values, list) and priority in values
        answers = {"Exists": is_there, "DoesNotExist": not is_there, "In": is_named, "NotIn": not is_named}
        yield answers.get(str(rule.get("operator")), False)


def _bounds(by: str, amounts: Mapping[str, object], name: str) -> Iterator[Bound]:
    text = amounts.get(name)
    if text is not None and amount(text) is not None:
        yield Bound(by, str(text))


def _name(item: JsonObject) -> str:
    return str(object_at(item, "metadata").get("name") or "")


def _least(texts: Iterable[str]) -> str:
    """Return the least quantity; the first one of those that are equal."""
    return min(texts, key=lambda text: value if (value := amount(text)) is not None else Decimal("Infinity"))


def _more(text: str | None, than: str) -> bool:
    one, other = amount(text), amount(than)
    return one is not None and other is not None and one > other


def _outside(name: str, problem: str, bound: Bound) -> UsageError:
    return UsageError(
        "outside-limit-range",
        f"a job with these resources can never run in this namespace: {name}: {problem}",
        cause=f"its {bound.by} does not allow it",
        hint=f"change {' or '.join(_FLAGS[name])}",
    )
