"""Check that containers of a Docker Engine can have GPUs, before anything is built.

The engine says so only when it starts a container: the program that gives containers their GPUs may be one that the
engine finds by itself, a runtime, or devices of the Container Device Interface. So a container is started with them, of
an empty image that is made for it and has no program. Where there are GPUs, only the program is missing.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from caliban.bounded import parse_json
from caliban.images.docker.engine import Engine
from caliban.redaction import clean_text

if TYPE_CHECKING:
    import docker

LABELS = {"caliban": "gpu-check"}
"""The labels of the image and the container, which are removed at once."""

_START_SECONDS = 60.0
# What Docker, NVIDIA's container runtime and its library report; https://docs.nvidia.com/datacenter/cloud-native/.
_NO_GPU = re.compile(
    r"could not select device driver|failed to discover GPU vendor from CDI|unresolvable CDI devices"
    r"|CDI device injection failed|nvml error|initialization error|driver not loaded|libnvidia-ml\.so"
    r"|no CUDA-capable device|no adapters were found|no devices were found|unknown device"
)


def wants_gpu(docker_arguments: Sequence[str]) -> bool:
    """Return whether arguments of ``docker run`` request GPUs."""
    return any(word == "--gpus" or word.startswith("--gpus=") for word in docker_arguments)


def missing_gpu(engine: Engine) -> str | None:
    """Return why containers cannot have GPUs; None where they can, or where that cannot be determined.

    Args:
        engine: is asked to start a container, which has no program.

    Raises:
        CalibanError: the engine cannot be reached.
    """
    import docker.errors

    with engine.translate_errors():
        try:
            with _empty_image(engine) as image, _container(engine, image) as container:
                engine.ask(lambda api: api.start(container), seconds=_START_SECONDS)
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
            return clean_text(reason) if _NO_GPU.search(reason) else None
        except _NotImportedError:
            return None
    return None


class _NotImportedError(Exception):
    """The engine's answer to an import names no image."""


@contextmanager
def _empty_image(engine: Engine) -> Iterator[str]:
    """Give the id of an image with nothing but an empty directory."""
    import docker.errors

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        directory = tarfile.TarInfo("etc")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
    changes = [f"LABEL {name}={value}" for name, value in LABELS.items()]
    answer = engine.ask(lambda api: api.import_image_from_data(buffer.getvalue(), changes=changes))
    image = _image_id(answer)
    try:
        yield image
    finally:
        with suppress(docker.errors.APIError):  # another command uses it
            engine.ask(lambda api: api.remove_image(image))


def _image_id(answer: str) -> str:
    """Return the id in the answer to an import: ``{"status": "sha256:..."}``, a line for each event."""
    for line in answer.splitlines():
        event = parse_json(line.encode()) if line.strip() else None
        if isinstance(event, Mapping) and str(event.get("status", "")).startswith("sha256:"):
            return str(event["status"])
    raise _NotImportedError


@contextmanager
def _container(engine: Engine, image: str) -> Iterator[str]:
    """Give the id of a container with all GPUs that was not started."""
    import docker.errors
    from docker.types import DeviceRequest

    def create(api: docker.APIClient) -> Mapping[str, object]:
        host = api.create_host_config(device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])])
        created: Mapping[str, object] = api.create_container(image, ["/none"], host_config=host, labels=LABELS)
        return created

    container = str(engine.ask(create)["Id"])
    try:
        yield container
    finally:
        with suppress(docker.errors.APIError):  # the engine removes it with its image, or a prune does
            engine.ask(lambda api: api.remove_container(container, force=True))
