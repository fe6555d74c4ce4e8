"""A base image of a few megabytes, with a shell and a fake Python: quick to push and to search."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from caliban.images.docker.engine import Engine
from tests.docker_engine import SESSION_LABEL, remove_descendants

_DOCKERFILE = """\
FROM {base}
RUN ["/bin/sh", "-ec", "mkdir /small; \
for name in sh cat chown grep ln mkdir rm sleep; do \
  cp -L --parents /bin/$name /small; \
  ldd /bin/$name | grep -o '/[^ ]*' | xargs -I{{}} cp -L --parents {{}} /small; \
done; \
mkdir -p /small/etc /small/tmp; cp /etc/passwd /etc/group /small/etc; \
echo '#!/bin/sh' > /small/bin/python; chmod 755 /small/bin/python"]
FROM scratch
COPY --from=0 /small/ /
LABEL {label}
"""


@pytest.fixture(scope="session")
def small_base_image(engine: Engine, base_image: str) -> Iterator[str]:
    """The image; removed with all images built from it at the end of the session."""
    name = base_image.replace("caliban-test-base", "caliban-test-small")
    label = f"{SESSION_LABEL}=small-{name.rpartition(':')[2]}"
    text = _DOCKERFILE.format(base=base_image, label=label)
    engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True, forcerm=True)
    yield name
    remove_descendants(engine.client, label)
