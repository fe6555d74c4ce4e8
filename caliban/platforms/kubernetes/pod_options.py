"""What the flags of :mod:`caliban.platforms.kubernetes.pod_flags` come to in a pod. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caliban.errors import UsageError
from caliban.platforms.kubernetes.label_syntax import is_label_key, is_label_value, is_subdomain

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
"""Labels of Jobs. Source: https://kueue.sigs.k8s.io/docs/reference/labels-and-annotations/."""

# What all versions accept; since 1.34 it is every printable ASCII character but "=".
_ENV_NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_LIST_FLAGS = ("image_pull_secret", "env", "toleration", "node_selector", "volume")
_SHARED_MEMORY_PATH = "/dev/shm"


@dataclass(frozen=True)
class Mount:
    """A mounted persistent volume claim.

    Attributes:
        claim: its name.
        directory: of the volume: ``runs/1``; "" for all of it.
        path: in the container.
        is_read_only: whether the job may not write there.
    """

    claim: str
    directory: str
    path: str
    is_read_only: bool


@dataclass(frozen=True)
class PodOptions:
    """What the user wants of pods, checked.

    Attributes:
        queue: a LocalQueue of Kueue, or None.
        queue_priority: a WorkloadPriorityClass of Kueue, or None.
        priority_class: a PriorityClass, or None.
        service_account: or None for the namespace's default.
        image_pull_secrets: names of secrets.
        env: environment variables; may hold secrets.
        tolerations: as in a pod.
        node_selector: labels of nodes.
        mounts: of volumes.
    """

    queue: str | None = None
    queue_priority: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    tolerations: tuple[Mapping[str, str], ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, object], environ: Mapping[str, str]) -> PodOptions:
        """Read the values of the flags by name.

        Args:
            options: the values.
            environ: the environment variables, for ``--env NAME``.

        Raises:
            UsageError: ``invalid-value``, ``conflicting-flags``.
        """
        names = {
            name: _object_name(f"--{name}", options.get(name), limit=63 if name.startswith("queue") else 253)
            for name in ("queue", "queue_priority", "priority_class", "service_account")
        }
        if names["queue_priority"] and not names["queue"]:
            raise UsageError(
                "conflicting-flags",
                "--queue_priority requires --queue",
                hint="add --queue, or use --priority_class for a PriorityClass of pods",
            )
        secrets, env, tolerations, selector, volumes = (_texts(options, name) for name in _LIST_FLAGS)
        return cls(
            **names,
            image_pull_secrets=tuple(
                dict.fromkeys(str(_object_name("--image_pull_secret", each, is_required=True)) for each in secrets)
            ),
            env=_env(env, environ),
            tolerations=tuple(_toleration(each) for each in dict.fromkeys(tolerations)),
            node_selector=_selector(selector),
            mounts=_mounts(volumes),
        )

    @property
    def job_labels(self) -> dict[str, str]:
        """Labels of the Job that its pods do not get: Kueue manages pods with such a label one by one."""
        found = {QUEUE_LABEL: self.queue, QUEUE_PRIORITY_LABEL: self.queue_priority}
        return {key: value for key, value in found.items() if value}

    @property
    def container_env(self) -> list[dict[str, str]]:
        """``env`` of the container, in which Kubernetes leaves every character as it is."""
        return [{"name": name, "value": literal(value)} for name, value in self.env.items()]

    @property
    def pod(self) -> dict[str, object]:
        """Fields of the pod's spec, without volumes, tolerations and the node selector."""
        found: dict[str, object] = {}
        if self.priority_class:
            found["priorityClassName"] = self.priority_class
        if self.service_account:
            found["serviceAccountName"] = self.service_account
        if self.image_pull_secrets:
            found["imagePullSecrets"] = [{"name": name} for name in self.image_pull_secrets]
        return found

    @property
    def volumes(self) -> list[dict[str, object]]:
        """``volumes`` of the pod."""
        return [
            {"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in self._volume_names.items()
        ]

    @property
    def volume_mounts(self) -> list[dict[str, object]]:
        """``volumeMounts`` of the container."""
        names = self._volume_names
        return [
            {
                "name": names[each.claim],
                "mountPath": each.path,
                **({"subPath": each.directory} if each.directory else {}),
                **({"readOnly": True} if each.is_read_only else {}),
            }
            for each in self.mounts
        ]

    @property
    def _volume_names(self) -> dict[str, str]:
        claims = dict.fromkeys(each.claim for each in self.mounts)
        return {claim: f"volume-{number}" for number, claim in enumerate(claims, 1)}

    def __str__(self) -> str:
        parts = [f"queue {self.queue}"] if self.queue else []
        parts += [f"queue priority {self.queue_priority}"] if self.queue_priority else []
        parts += [f"priority class {self.priority_class}"] if self.priority_class else []
        parts += [f"service account {self.service_account}"] if self.service_account else []
        parts += [f"image pull secret {each}" for each in self.image_pull_secrets]
        parts += [f"env {', '.join(self.env)}"] if self.env else []
        parts += [f"toleration {_taint(each)}" for each in self.tolerations]
        parts += [f"node {key}={value}" for key, value in self.node_selector.items()]
        parts += [f"volume {each.claim} at {each.path}" for each in self.mounts]
        return ", ".join(parts)


def _taint(toleration: Mapping[str, str]) -> str:
    value = f"={toleration['value']}" if "value" in toleration else ""
    effect = f":{toleration['effect']}" if "effect" in toleration else ""
    return f"{toleration['key']}{value}{effect}"


def literal(text: str) -> str:
    """Return ``text`` so that Kubernetes does not replace ``$(NAME)`` and ``$$`` in it.

    Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return text.replace("$", "$$") if "$$" in text or "$(" in text else text


def _texts(options: Mapping[str, object], name: str) -> list[str]:
    found = options.get(name)
    return [str(each) for each in found] if isinstance(found, Sequence) and not isinstance(found, str) else []


def _object_name(flag: str, value: object, *, limit: int = 253, is_required: bool = False) -> str | None:
    """Return the name of an object of the cluster.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
    """
    if value is None and not is_required:
        return None
    if not isinstance(value, str) or len(value) > limit or not is_subdomain(value):
        raise _invalid(flag, "a name of lowercase letters, digits, dashes and dots", value, f"write {flag} my-lab")
    return value


def _env(given: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not _ENV_NAME.fullmatch(name) or name == "." or name.startswith(".."):
            shown = f"{name}=..." if separator else name  # the value may be a secret
            raise _invalid("--env", "NAME=VALUE or NAME", shown, "write --env WANDB_MODE=offline")
        if not separator:
            if name not in environ:
                raise UsageError(
                    "invalid-value",
                    f"--env {name}: the variable is not set in this shell",
                    hint=f"set it, or write its value: --env {name}=VALUE",
                )
            value = environ[name]
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError("invalid-value", f"--env {name}: the value is not UTF-8 text", hint="encode it as base64")
        found[name] = value
    return found


def _toleration(text: str) -> dict[str, str]:
    """Parse ``KEY[=VALUE][:EFFECT]``, as ``kubectl taint`` writes taints."""
    taint, colon, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    if not is_label_key(key) or not is_label_value(value) or (colon and effect not in _EFFECTS):
        hint = f"write --toleration dedicated=ml:NoSchedule; the effects are {', '.join(_EFFECTS)}"
        raise _invalid("--toleration", "KEY, KEY=VALUE, KEY:EFFECT or KEY=VALUE:EFFECT", text, hint)
    operator = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **operator, **({"effect": effect} if colon else {})}


def _selector(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not is_label_key(key) or not is_label_value(value):
            raise _invalid("--node_selector", "KEY=VALUE of a label", text, "write --node_selector zone=lab-2")
        if found.setdefault(key, value) != value:
            raise UsageError(
                "conflicting-flags",
                f"--node_selector: no node has {key}={found[key]} and {key}={value}",
                hint="name each label once",
            )
    return found


def _mounts(given: Sequence[str]) -> tuple[Mount, ...]:
    mounts = tuple(_mount(each) for each in dict.fromkeys(given))
    paths = [_SHARED_MEMORY_PATH, *(each.path for each in mounts)]
    twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if twice is not None:
        why = (
            "caliban mounts the shared memory there" if twice == _SHARED_MEMORY_PATH else "another one is mounted there"
        )
        raise UsageError("conflicting-flags", f"--volume: cannot mount at {twice}", cause=why, hint="use another path")
    return mounts


def _mount(text: str) -> Mount:
    """Parse ``CLAIM[/DIR]:PATH[:ro]``."""
    source, _, target = text.partition(":")
    path, _, mode = target.partition(":")
    claim, _, directory = source.partition("/")
    steps = directory.split("/") if directory else []
    is_valid = (
        is_subdomain(claim)
        and not {"", ".", ".."} & set(steps)
        and path.startswith("/")
        and not {".", ".."} & set(path.split("/"))
        and path.strip("/") != ""
        and mode in ("", "ro", "rw")
        and (mode != "" or not target.endswith(":"))
        and not (source.endswith("/") or "\0" in text)
    )
    if not is_valid:
        hint = "write --volume datasets:/data:ro, with the name of a PersistentVolumeClaim of the namespace"
        raise _invalid("--volume", "CLAIM:PATH, CLAIM/DIR:PATH or one of them with :ro", text, hint)
    return Mount(claim, directory, "/" + "/".join(filter(None, path.split("/"))), mode == "ro")


def _invalid(flag: str, expected: str, found: object, hint: str) -> UsageError:
    return UsageError("invalid-value", f'{flag}: expected {expected}, got "{found}"', hint=hint)
