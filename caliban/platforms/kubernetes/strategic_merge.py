"""Strategic merge patches of Jobs, by kubectl's rules. Pure.

Objects are merged key by key, and null deletes a key. Lists are replaced, except those whose items have a merge key:
items with the same key are merged, others are added. Directives: ``$patch: delete`` and ``$patch: replace``,
``$retainKeys``, ``$setElementOrder/LIST`` and ``$deleteFromPrimitiveList/LIST``.

Sources: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/;
https://github.com/kubernetes/design-proposals-archive/blob/main/cli/preserve-order-in-strategic-merge-patch.md (the
order of items); the behaviour is that of ``k8s.io/apimachinery/pkg/util/strategicpatch`` of Kubernetes 1.36, and the
merge keys are the tags ``patchMergeKey`` of ``k8s.io/api`` 0.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Object: TypeAlias = "dict[str, object]"

_MARKER = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"


class PatchError(ValueError):
    """A patch cannot be applied.

    Attributes:
        path: of the value in the patch: ``spec.template``.
        problem: what is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the patch'}: {problem}")
        self.path = path
        self.problem = problem


@dataclass(frozen=True)
class Fields:
    """How the fields of an object are merged.

    Attributes:
        lists: those that are merged; all others are replaced.
        objects: those with such fields.
    """

    lists: Mapping[str, MergedList] = field(default_factory=dict)
    objects: Mapping[str, Fields] = field(default_factory=dict)


@dataclass(frozen=True)
class MergedList:
    """How the items of a list are merged.

    Attributes:
        key: the field that tells which items are the same; None for a list of strings.
        item: how the fields of items are merged.
    """

    key: str | None
    item: Fields = field(default_factory=Fields)


_REPLACED = Fields()
_METADATA = Fields({"ownerReferences": MergedList("uid"), "finalizers": MergedList(None)})
_CONTAINERS = MergedList(
    "name",
    Fields(
        {
            "ports": MergedList("containerPort"),
            "env": MergedList("name"),
            "volumeMounts": MergedList("mountPath"),
            "volumeDevices": MergedList("devicePath"),
        }
    ),
)
_VOLUME = Fields(
    objects={"ephemeral": Fields(objects={"volumeClaimTemplate": Fields(objects={"metadata": _METADATA})})}
)
_POD = Fields(
    {
        "containers": _CONTAINERS,
        "initContainers": _CONTAINERS,
        "ephemeralContainers": _CONTAINERS,
        "volumes": MergedList("name", _VOLUME),
        "imagePullSecrets": MergedList("name"),
        "hostAliases": MergedList("ip"),
        "topologySpreadConstraints": MergedList("topologyKey"),
        "schedulingGates": MergedList("name"),
        "resourceClaims": MergedList("name"),
    }
)
_TEMPLATE = Fields(objects={"metadata": _METADATA, "spec": _POD})
JOB = Fields(objects={"metadata": _METADATA, "spec": Fields(objects={"template": _TEMPLATE})})
"""How a Job is merged."""


def merge(original: Mapping[str, object], patch: Mapping[str, object], fields: Fields = JOB, path: str = "") -> Object:
    """Return an object with a patch applied; neither is modified.

    Args:
        original: the object.
        patch: the patch.
        fields: how it is merged.
        path: where it is, for messages.

    Raises:
        PatchError: kubectl refuses the patch, too.
    """
    if _MARKER in patch:
        return _directed(patch, path)
    rest, result = dict(patch), dict(original)
    _retain(rest, result, path)
    for name in [name for name in rest if name.startswith(_ORDER)]:
        _merge_ordered(rest, result, name.removeprefix(_ORDER), rest.pop(name), fields, path)
    for name, value in rest.items():
        _merge_field(result, name, value, fields, path)
    return result


def _directed(patch: Mapping[str, object], path: str) -> Object:
    directive = patch[_MARKER]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _MARKER}
    if directive == "delete":
        return {}
    raise PatchError(path, f'unknown directive "{_MARKER}: {directive}"; write replace or delete')


def _retain(rest: Object, result: Object, path: str) -> None:
    """Apply ``$retainKeys``: what it does not name is removed."""
    if _RETAIN not in rest:
        return
    names = rest.pop(_RETAIN)
    if not isinstance(names, list):
        raise PatchError(_at(path, _RETAIN), "expected a list of keys")
    for key, value in rest.items():
        if value is not None and not key.startswith((_ORDER, _DELETE_FROM)) and key not in names:
            raise PatchError(_at(path, key), f"{_RETAIN} does not name it")
    for key in [key for key in result if key not in names]:
        del result[key]


def _merge_field(result: Object, name: str, value: object, fields: Fields, path: str) -> None:
    is_deletion = name.startswith(_DELETE_FROM)
    name = name.removeprefix(_DELETE_FROM)
    here, before = _at(path, name), result.get(name)
    if value is None:
        result.pop(name, None)
    elif isinstance(before, Mapping) and isinstance(value, Mapping):
        result[name] = merge(before, value, fields.objects.get(name, _REPLACED), here)
    elif isinstance(before, list) and isinstance(value, list):
        rule = fields.lists.get(name)
        if is_deletion and not any(isinstance(each, Mapping) for each in (*before, *value)):
            _check_alike(before, value, here)
            result[name] = [each for each in before if not _contains(value, each)]
        elif rule is None:
            result[name] = value
        else:
            result[name] = _merged_lists(before, value, rule, here)
    elif not is_deletion:
        result.pop(name, None)
        for kept in _without_directives(_without_nulls(value)):
            result[name] = kept


def _merge_ordered(rest: Object, result: Object, name: str, order: object, fields: Fields, path: str) -> None:
    """Apply ``$setElementOrder/NAME`` together with the patch of that list."""
    here, rule = _at(path, name), fields.lists.get(name, MergedList(None))
    before, patch = (each.get(name, []) for each in (result, rest))
    if not isinstance(order, list) or not isinstance(before, list) or not isinstance(patch, list):
        raise PatchError(here, f"{_ORDER}{name} is for lists")
    if name not in result and name not in rest:
        return
    _check_alike(before, patch, here)
    _check_order(patch, order, rule.key, here)
    if name not in result:
        changed = [kept for each in patch for kept in _without_directives(each)]
    elif name not in rest:
        changed = before
    else:
        changed = _merged_lists(before, patch, rule, here) if name in fields.lists else patch
    if not before and not patch:
        raise PatchError(here, f"{_ORDER}{name}: the list has no items")
    rest.pop(name, None)
    result[name] = _in_order(changed, order, before, rule.key, here)


def _check_order(patch: Sequence[object], order: Sequence[object], key: str | None, path: str) -> None:
    """Check that the items of a patch are in the given order, and all in it."""
    kept = [each for each in patch if not (isinstance(each, Mapping) and each.get(_MARKER) == "delete")]
    if not order or not kept:
        return
    left = _keys(order, key, path)
    for each in kept:
        if left and isinstance(each, Mapping) and _MARKER in each:
            continue
        position = _index(left, _keys([each], key, path)[0])
        if position >= len(left):
            raise PatchError(path, f"the items are in another order than in {_ORDER}, or are missing there")
        del left[: position + 1]


def _merged_lists(before: Sequence[object], patch: Sequence[object], rule: MergedList, path: str) -> list[object]:
    if not before and not patch:
        return []
    _check_alike(before, patch, path)
    if not isinstance((*before, *patch)[0], Mapping):
        return _in_order(_unique([*before, *patch]), patch, before, None, path)
    if rule.key is None:
        raise PatchError(path, "lists of objects cannot be merged here")
    left, plain = _after_directives([*before], patch, rule.key, path)
    items = [*left]
    for each in plain:
        (wanted,) = _keys([each], rule.key, path)
        assert isinstance(each, Mapping)
        same = next((n for n, item in enumerate(items) if _same(_key(item, rule.key), wanted)), None)
        if same is None:
            items.append(each)
        else:
            found = items[same]
            assert isinstance(found, Mapping)
            items[same] = merge(found, each, rule.item, f"{path}[{wanted}]")
    return _in_order(items, plain, left, rule.key, path)


def _after_directives(
    items: list[object], patch: Sequence[object], key: str, path: str
) -> tuple[list[object], list[object]]:
    """Apply the items of a patch that are directives; return the list, and the other items of the patch."""
    plain: list[object] = []
    is_replaced = False
    for each in patch:
        assert isinstance(each, Mapping)
        directive = each.get(_MARKER)
        if _MARKER not in each:
            plain.append(each)
        elif directive == "replace":
            is_replaced = True
        elif directive == "delete":
            (wanted,) = _keys([each], key, path)
            items = [item for item in items if not _same(_key(item, key), wanted)]
        else:
            raise PatchError(path, f'unknown directive "{_MARKER}: {directive}" of an item; write replace or delete')
    if is_replaced:
        _keys(plain, key, path)
        return plain, []
    return items, plain


def _in_order(
    items: Sequence[object], order: Sequence[object], before: Sequence[object], key: str | None, path: str
) -> list[object]:
    """Return items in the order of ``order``; those that are not in it stay where they were, as far as possible."""
    wanted, earlier = _keys(order, key, path), _keys(before, key, path)
    keys = _keys(items, key, path)
    pairs = list(zip(keys, items, strict=True))
    named = sorted((pair for pair in pairs if _contains(wanted, pair[0])), key=lambda pair: _index(wanted, pair[0]))
    others = sorted(
        (pair for pair in pairs if not _contains(wanted, pair[0])), key=lambda pair: _index(earlier, pair[0])
    )
    result = []
    while named and others:
        left, right = _index(earlier, others[0][0]), _index(earlier, named[0][0])
        is_first = left < right < len(earlier)
        result.append((others if is_first else named).pop(0)[1])
    return result + [item for _, item in (*named, *others)]


def _check_alike(before: Sequence[object], patch: Sequence[object], path: str) -> None:
    types = {dict if isinstance(each, Mapping) else type(each) for each in (*before, *patch)}
    if len(types) > 1 or types & {list, type(None)}:
        raise PatchError(path, "the items of the list are of different types")


def _keys(items: Sequence[object], key: str | None, path: str) -> list[object]:
    """Return what tells items from each other: the values of their merge key, or themselves."""
    if key is None:
        return list(items)
    for each in items:
        if not isinstance(each, Mapping) or key not in each:
            raise PatchError(path, f'an item has no "{key}"')
    return [_key(each, key) for each in items]


def _key(item: object, key: str) -> object:
    return item.get(key) if isinstance(item, Mapping) else None


def _same(one: object, other: object) -> bool:
    """Return whether scalars are equal; 1 and true are not."""
    return type(one) is type(other) and one == other


def _contains(items: Sequence[object], wanted: object) -> bool:
    return any(_same(each, wanted) for each in items)


def _index(items: Sequence[object], wanted: object) -> int:
    return next((n for n, each in enumerate(items) if _same(each, wanted)), len(items))


def _unique(items: Sequence[object]) -> list[object]:
    found: list[object] = []
    for each in items:
        if not _contains(found, each):
            found.append(each)
    return found


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _without_directives(value: object) -> Iterator[object]:
    """Yield a value without the objects in it that have a directive; nothing where it is such an object."""
    if isinstance(value, Mapping):
        if _MARKER not in value:
            yield {key: kept for key, each in value.items() for kept in _without_directives(each)}
    elif isinstance(value, list):
        yield [kept for each in value for kept in _without_directives(each)]
    else:
        yield value


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
