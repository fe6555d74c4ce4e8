"""Environment variables of jobs whose values may be secrets: hidden wherever a job is shown. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.records import JsonObject
from caliban.redaction import HIDDEN, has_credential, hide_secrets, register_secrets

_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|(?:^|[_.-])pwd|(?:^|[_.-])pass(?:$|[_.-])|credential|authorization|cookie"
    r"|(?:^|[_.-])auth(?:$|[_.-])|dsn$|(?:^|[_.-]|api|access|private|secret|ssh|signing|encryption)key(?:$|[_.-]|s$|data|id$)",
    re.IGNORECASE,
)
"""``HF_TOKEN``, ``WANDB_API_KEY``, ``PGPASSWORD``, ``AWS_ACCESS_KEY_ID``; not ``TOKENIZERS_PARALLELISM``."""
_HARMLESS_NAME = re.compile(
    r"tokenizer|max_?(?:new_?)?tokens|num_?tokens|tokens_per|pad_token|keyring|ssl_cert", re.IGNORECASE
)


_SHORTEST = 4
"""Characters of a secret that is hidden everywhere: "1" would hide more than it protects."""


def is_secret(name: str, value: str) -> bool:
    """Return whether the value of a variable should not be shown."""
    looks_secret = _SECRET_NAME.search(name) is not None and _HARMLESS_NAME.search(name) is None
    return looks_secret or has_credential(value) or hide_secrets(value) != value


def register(env: Mapping[str, str]) -> None:
    """Hide the secrets among the variables in all messages of this process, as in an error of a cluster."""
    register_secrets(*(value for name, value in env.items() if is_secret(name, value) and len(value) >= _SHORTEST))


def register_spec(spec: JsonObject) -> None:
    """Hide the secrets among the variables of a job spec likewise."""
    pod = object_at(spec, "template", "spec")
    for container in (*objects_in(pod, "containers"), *objects_in(pod, "initContainers")):
        register({str(each.get("name")): str(each.get("value") or "") for each in objects_in(container, "env")})


def without_secrets(spec: JsonObject) -> JsonObject:
    """Return a job spec with ``***`` in place of the values of secrets, for a text that is shown."""
    pod = dict(object_at(spec, "template", "spec"))
    for key in ("containers", "initContainers"):
        if isinstance(items := pod.get(key), list):
            pod[key] = [_container(each) if isinstance(each, Mapping) else each for each in items]
    template = object_at(spec, "template")
    return {**spec, "template": {**template, "spec": pod}} if pod else spec


def _container(container: Mapping[str, object]) -> Mapping[str, object]:
    env = container.get("env")
    if not isinstance(env, list):
        return container
    return {**container, "env": [_variable(each) if isinstance(each, Mapping) else each for each in env]}


def _variable(each: Mapping[str, object]) -> Mapping[str, object]:
    value = each.get("value")
    if isinstance(value, str) and value and is_secret(str(each.get("name")), value):
        return {**each, "value": HIDDEN}
    return each
