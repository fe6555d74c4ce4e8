"""What a cluster holds: namespaces, Jobs and pods, each change with a resource version of its own, as etcd counts."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from tests.standins.kubernetes.schema import as_json
from tests.standins.kubernetes.status import JOBS, NAMESPACES, PODS, Resource, not_found

Object = dict[str, Any]
Key = tuple[Resource, str, str]


class State:
    """The objects of one cluster, by resource, namespace and name. A change puts another object in one's place."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._objects: dict[Key, Object] = {}
        self._version = 100
        self._snapshots: dict[int, dict[Key, Object]] = {}

    @property
    def version(self) -> int:
        """The resource version of the last change."""
        return self._version

    def add(self, resource: Resource, item: Object) -> Object:
        """Keep a new object, which has its name and namespace."""
        with self.lock:
            key = (resource, item["metadata"].get("namespace", ""), item["metadata"]["name"])
            self._version += 1
            item["metadata"].setdefault("uid", str(uuid.uuid4()))
            item["metadata"].setdefault("creationTimestamp", now())
            item["metadata"]["resourceVersion"] = str(self._version)
            self._objects[key] = as_json(item)
            return as_json(item)

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            StatusError: 404, there is none.
        """
        with self.lock:
            if (resource, namespace, name) not in self._objects:
                raise not_found(resource, name)
            return as_json(self._objects[resource, namespace, name])

    def has(self, resource: Resource, namespace: str, name: str) -> bool:
        with self.lock:
            return (resource, namespace, name) in self._objects

    @contextmanager
    def change(self, resource: Resource, namespace: str, name: str) -> Iterator[Object]:
        """One object, to be changed in place; a new resource version for it where that was done.

        Raises:
            StatusError: 404, there is none.
        """
        with self.lock:
            before = self.get(resource, namespace, name)
            item = as_json(before)
            yield item
            if item != before:
                self._version += 1
                item["metadata"]["resourceVersion"] = str(self._version)
                if item.get("spec") != before.get("spec") and "generation" in item["metadata"]:
                    item["metadata"]["generation"] += 1
                self._objects[resource, namespace, name] = item

    def remove(self, resource: Resource, namespace: str, name: str) -> Object:
        """Forget an object.

        Raises:
            StatusError: 404, there is none.
        """
        with self.lock:
            item = self.get(resource, namespace, name)
            del self._objects[resource, namespace, name]
            self._version += 1
            return item

    def items(
        self, resource: Resource, namespace: str | None = None, is_wanted: Callable[[Object], bool] = bool
    ) -> list[Object]:
        """The objects of a namespace, or of all, by namespace and name."""
        with self.lock:
            return [
                as_json(item)
                for key, item in sorted(self._objects.items(), key=lambda pair: pair[0][1:])
                if key[0] == resource and namespace in (None, key[1]) and is_wanted(item)
            ]

    def keep_for_later(self) -> int:
        """Keep what there is now, for lists that go on later; its resource version."""
        with self.lock:
            self._snapshots[self._version] = dict(self._objects)
            return self._version

    def items_at(self, version: int | None, resource: Resource, namespace: str | None) -> list[Object] | None:
        """The objects that there were, or that there are for None; None where that is no longer known.

        They are the kept ones, not copies, so that a long list costs little: they are to be read only.
        """
        with self.lock:
            kept = self._objects if version is None else self._snapshots.get(version)
            if kept is None:
                return None
            mine = [key for key in kept if key[0] == resource and namespace in (None, key[1])]
            return [kept[key] for key in sorted(mine, key=lambda key: key[1:])]

    def compact(self) -> None:
        """Forget what there was: every list that is under way is too old from now on."""
        with self.lock:
            self._snapshots.clear()

    def add_namespace(self, name: str) -> None:
        """Let there be a namespace."""
        metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        self.add(
            NAMESPACES,
            {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        )

    def terminate_namespace(self, name: str) -> None:
        """Let a namespace be on its way out: nothing can be made in it any more."""
        with self.change(NAMESPACES, "", name) as item:
            item["status"]["phase"] = "Terminating"
            item["metadata"]["deletionTimestamp"] = now()

    def remove_namespace(self, name: str) -> None:
        """Let a namespace and all that is in it be gone."""
        with self.lock:
            for resource in (JOBS, PODS):
                for item in self.items(resource, name):
                    self.remove(resource, name, item["metadata"]["name"])
            self.remove(NAMESPACES, "", name)

    def pods_of(self, job: Mapping[str, Any]) -> list[Object]:
        """The pods that a Job owns, the oldest first."""
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        with self.lock:
            pods = [item for key, item in self._objects.items() if key[:2] == (PODS, namespace)]
            return [as_json(pod) for pod in pods if _owner(pod) == uid]


def now() -> str:
    """The time as the API writes it, in whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _owner(pod: Mapping[str, Any]) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    uid: str | None = owners[0].get("uid")
    return uid
