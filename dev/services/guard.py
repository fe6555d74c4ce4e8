"""The process that tidies up an engine when its last user is gone, killed ones included.

``python -m services.guard --directory DIRECTORY --address ADDRESS --label LABEL -- [DOCKERD...]`` starts the engine,
if a
command is given, and waits for the users' lock, which the kernel takes away from a process that ends in any way.
Then it removes what carries our label and stops the engine. It is in a session of its own, so that neither Ctrl-C
nor the end of a terminal nor ``timeout`` reaches it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from services import engine_network
from services.cache import locked
from services.engine_api import EngineApi, EngineRefusal
from services.shell import Interrupted, dies_with_parent, raise_interrupted, say, stop

ADDED = "added-images"
"""Name of the file that lists images, one name a line, that carry no label of ours and were not there before us."""

BASE_REPOSITORY = "caliban-dev-base"
_STOP_SECONDS = 30


def tidy(api: EngineApi, label: str, added: Path, *, keep_base: bool) -> None:
    """Remove the containers and images that carry our label, and the images that a file lists.

    Args:
        api: the engine.
        label: ``name=value``.
        added: a file as :data:`ADDED` says; it is removed too.
        keep_base: whether the base image stays, for the next run.
    """
    for container in api.containers(label):
        api.remove_container(container)
    # An image goes when those made from it have gone: again, as long as that helps.
    progress = True
    while progress:
        found = api.images(label)
        wanted = [image for image, names in found.items() if not (keep_base and _is_base(names))]
        progress = sum(api.remove_image(image) for image in wanted) > 0
    if added.exists():
        for name in added.read_text().split():
            api.remove_image(name)
        added.unlink()


def _is_base(names: list[str]) -> bool:
    return any(name.startswith(f"{BASE_REPOSITORY}:") for name in names)


def _tidy_and_tell(arguments: argparse.Namespace) -> None:
    try:
        added = arguments.directory / ADDED
        tidy(EngineApi(arguments.address), arguments.label, added, keep_base=bool(arguments.daemon))
    except (OSError, EngineRefusal) as error:
        say(f"cannot tidy up at {arguments.address}: {error}")


def _stop_daemon(daemon: subprocess.Popen[bytes], arguments: argparse.Namespace) -> None:
    stop(daemon, signal.SIGTERM, _STOP_SECONDS)
    shutil.rmtree(Path(urlsplit(arguments.address).path).parent, ignore_errors=True)
    engine_network.restore(arguments.directory)


def main() -> None:
    """Start, wait, tidy, stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--machine-lock", type=Path)
    parser.add_argument("daemon", nargs="*")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, raise_interrupted)
    with ExitStack() as machine, ExitStack() as stack:
        if arguments.machine_lock is not None:
            machine.enter_context(locked(arguments.machine_lock))
        stack.enter_context(locked(arguments.directory / "guard.lock"))
        daemon = None
        if arguments.daemon:
            engine_network.record(arguments.directory)
            # A daemon that ends by itself ends the guard.
            signal.signal(signal.SIGCHLD, raise_interrupted)
            daemon = subprocess.Popen(
                arguments.daemon, stdin=subprocess.DEVNULL, preexec_fn=dies_with_parent(signal.SIGTERM)
            )
        try:
            with locked(arguments.directory / "users.lock"):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _tidy_and_tell(arguments)
                if daemon is not None:
                    _stop_daemon(daemon, arguments)
                # New users wait for the users' lock; the guard's must be free before they look at it.
                stack.close()
        except Interrupted:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # tidying up runs programs, which end too
            if daemon is not None:
                _stop_daemon(daemon, arguments)


if __name__ == "__main__":
    main()
