"""What containers write, and the requests that read it (``pods/log``).

Sources, all of kubernetes/kubernetes: ``pkg/apis/core/validation/validation.go`` (``ValidatePodLogOptions``),
``pkg/registry/core/pod/strategy.go`` (``LogLocation``), ``pkg/kubelet/kubelet_pods.go``
(``validateContainerLogStatus``) and ``pkg/kubelet/kuberuntime/logs/logs.go``.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from tests.standins.kubernetes.state import Object, State
from tests.standins.kubernetes.status import (
    PODS,
    FieldError,
    bad_request,
    field_forbidden,
    invalid,
    not_valid,
)

_LOOK_S = 0.02
_WAITS = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
_FLAGS = ("follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend")
Key = tuple[str, str, int]


class Logs:
    """The output of each run of each container.

    Attributes:
        break_after: after how many further lines each request that follows breaks off, once; None for never.
        deleted: the uids of pods whose files are deleted, although the pods are still there.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lines: dict[Key, list[tuple[int, bytes]]] = defaultdict(list)
        self._closing = threading.Event()
        self.break_after: int | None = None
        self.deleted: set[str] = set()

    def write(self, pod: Object, data: bytes, container: str | None = None, *, at: datetime | None = None) -> None:
        """Let a container of a pod write; a line without a line break is one that is not complete yet."""
        name = container or pod["spec"]["containers"][0]["name"]
        stamp = int(at.timestamp()) * 10**9 + at.microsecond * 1000 if at else time.time_ns()
        lines = self._lines[pod["metadata"]["uid"], name, _restarts(pod, name)]
        if lines and not lines[-1][1].endswith(b"\n"):
            began, before = lines.pop()
            stamp, data = began, before + data
        lines += [(stamp + number, line) for number, line in enumerate(_split(data))]

    def rotate(self, pod: Object, kept: int) -> None:
        """Let the node begin a new file: only the last lines are served from now on."""
        name = pod["spec"]["containers"][0]["name"]
        lines = self._lines[pod["metadata"]["uid"], name, _restarts(pod, name)]
        del lines[: max(0, len(lines) - kept)]

    def close(self) -> None:
        """End every request that follows."""
        self._closing.set()

    def pieces(self, namespace: str, name: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """Check a request, and return what it reads.

        Raises:
            StatusError: 400, 404 or 422.
        """
        options = _options(query, name)
        pod = self._state.get(PODS, namespace, name)
        container = _container(pod, query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            return iter(())
        status = _status(pod, container)
        number = _restarts(pod, container)
        if options["previous"]:
            if not status.get("lastState", {}).get("terminated"):
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
            number -= 1
        elif "waiting" in status.get("state", {}) and not status.get("lastState", {}).get("terminated"):
            reason = status["state"]["waiting"]["reason"]
            words = _WAITS.get(reason, reason)
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {words}')
        elif not status:
            raise bad_request(f'container "{container}" in pod "{name}" is not available')
        if pod["metadata"]["uid"] in self.deleted:
            return iter([f"unable to retrieve container logs for containerd://{'0' * 64}".encode()])
        return self._read(pod, (pod["metadata"]["uid"], container, number), options)

    def _read(self, pod: Object, key: Key, options: Mapping[str, Any]) -> Iterator[bytes]:
        is_running = self._is_running(pod, key)
        lines = list(self._lines[key])
        if options["since"] is not None:
            lines = [line for line in lines if line[0] >= options["since"]]
        if options["tailLines"] is not None:
            lines = lines[len(lines) - min(len(lines), options["tailLines"]) :]
        count = len(self._lines[key])
        for line in lines:
            yield self._shown(line, options)
        while options["follow"] and is_running and not self._closing.wait(_LOOK_S):
            is_running = self._is_running(pod, key)  # before the last look at its lines
            known = self._lines[key]
            for line in known[count:]:
                if not line[1].endswith(b"\n") and is_running:
                    break
                yield self._shown(line, options)
                count += 1

    def _shown(self, line: tuple[int, bytes], options: Mapping[str, Any]) -> bytes:
        if options["follow"] and self.break_after is not None:
            self.break_after -= 1
            if self.break_after < 0:
                self.break_after = None
                raise ConnectionError("the answer breaks off")
        return (_stamp(line[0]) + b" " if options["timestamps"] else b"") + line[1]

    def _is_running(self, pod: Object, key: Key) -> bool:
        metadata = pod["metadata"]
        if not self._state.has(PODS, metadata["namespace"], metadata["name"]):
            return False
        current = self._state.get(PODS, metadata["namespace"], metadata["name"])
        return _restarts(current, key[1]) == key[2] and "running" in _status(current, key[1]).get("state", {})


def _split(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + [part for part in parts[-1:] if part]


def _options(query: Mapping[str, str], pod: str) -> dict[str, Any]:
    """Return the parameters of a request.

    Raises:
        StatusError: 400 or 422.
    """
    found: dict[str, Any] = {name: query.get(name, "") not in ("", "0", "f", "F", "false", "False") for name in _FLAGS}
    errors: list[FieldError] = []
    for name, least in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        found[name] = _number(query, name)
        if found[name] is not None and found[name] < least:
            words = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
            errors.append(invalid(name, found[name], words))
    found["since"] = _time(query["sinceTime"]) if query.get("sinceTime") else None
    if found["since"] is not None and found["sinceSeconds"] is not None:
        errors.append(field_forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if errors:
        raise not_valid(("", "PodLogOptions"), pod, errors)
    if found["sinceSeconds"] is not None:
        found["since"] = time.time_ns() - found["sinceSeconds"] * 10**9
    return found


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _time(text: str) -> int:
    """Return nanoseconds: the API server passes on whole seconds only."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) * 10**9
    except ValueError:
        raise bad_request(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from None


def _container(pod: Mapping[str, Any], wanted: str) -> str:
    names = [each["name"] for each in pod["spec"]["containers"]]
    others = [each["name"] for each in pod["spec"].get("initContainers") or []]
    name = pod["metadata"]["name"]
    if wanted and wanted not in names + others:
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    if not wanted and len(names) > 1:
        also = f" or one of the init containers: [{' '.join(others)}]" if others else ""
        raise bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{also}"
        )
    return wanted or str(names[0])


def _status(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    statuses = pod["status"].get("containerStatuses", [])
    return next((each for each in statuses if each["name"] == container), {})


def _restarts(pod: Mapping[str, Any], container: str) -> int:
    return int(_status(pod, container).get("restartCount", 0))


def _stamp(nanoseconds: int) -> bytes:
    whole, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(whole, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()
