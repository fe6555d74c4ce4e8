"""Brings up what the tests and the demo need, runs a command with it, and takes down what it started.

``python3 dev/with_services.py [--docker | --current-engine] [--base-image] [--postgresql] [--registry] [--peer]
[--kubernetes] -- COMMAND...``

The command finds in its environment:
    DOCKER_HOST                   a Docker Engine (--docker); with --current-engine, the one that is started where the
                                  machine has none is today's, built with Go, instead of Debian's
    CALIBAN_TEST_BASE_IMAGE       an image with Python, pip and apt-get in that engine (--base-image)
    CALIBAN_TEST_POSTGRESQL_URL   an empty database (--postgresql)
    CALIBAN_TEST_REGISTRY         ``localhost:PORT`` of an empty registry (--registry)
    CALIBAN_TEST_PEER             the command of caliban 0.4.2 (--peer)
    KUBECONFIG, CALIBAN_TEST_CONTEXT, CALIBAN_TEST_CLUSTER_IMAGE
                                  a cluster and an image in it whose entrypoint is sh (--kubernetes); kubectl is on the
                                  PATH, and CALIBAN_TEST_CLUSTER_STATE is its directory (see services/cluster_node.py)

The exit code is the command's; 125 when something cannot be brought up, 126 or 127 when the command cannot be run,
128 + N after signal N.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from services.base_image import base_image
from services.engine import CURRENT, DEBIAN, docker_engine
from services.environments import peer
from services.kubernetes import kubernetes
from services.postgresql import postgresql
from services.registry import registry
from services.shell import Failure, Interrupted, dies_with_parent, ignore_signals, say, unwind_on_signals

NOT_BROUGHT_UP = 125
GRACE_SECONDS = 20


def bring_up(wanted: argparse.Namespace, stack: ExitStack) -> dict[str, str]:
    """Bring up what is wanted, and give what the command's environment gets."""
    found: dict[str, str] = {}
    if wanted.peer:
        found["CALIBAN_TEST_PEER"] = peer()
    if wanted.docker or wanted.current_engine or wanted.base_image:
        engine = stack.enter_context(docker_engine(CURRENT if wanted.current_engine else DEBIAN))
        found["DOCKER_HOST"] = engine.address
        if wanted.base_image:
            found["CALIBAN_TEST_BASE_IMAGE"] = base_image(engine)
    if wanted.postgresql:
        found["CALIBAN_TEST_POSTGRESQL_URL"] = stack.enter_context(postgresql())
    if wanted.registry:
        found["CALIBAN_TEST_REGISTRY"] = stack.enter_context(registry())
    if wanted.kubernetes:
        found.update(stack.enter_context(kubernetes()))
    return found


def run_command(command: list[str], environment: Mapping[str, str]) -> int:
    """Run the command to its end and give its exit code; signals that we get reach it."""
    try:
        process = subprocess.Popen(command, env=environment, preexec_fn=dies_with_parent(signal.SIGTERM))
    except OSError as error:
        say(f"cannot run {command[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    try:
        return shell_code(process.wait())
    except Interrupted as interrupted:
        return _end(process, interrupted.number)


def _end(process: subprocess.Popen[bytes], number: int) -> int:
    """Let the command end by itself; it has the signal already when a terminal sent it to all."""
    if not (number == signal.SIGINT and _in_foreground()):
        process.send_signal(number)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"the command does not end within {GRACE_SECONDS} s, so it is killed")
        process.kill()
        process.wait()
    return 128 + number


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def shell_code(code: int) -> int:
    """Give the exit code as shells have it: 128 + N for a command that signal N ended."""
    return 128 - code if code < 0 else code


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; everything after ``--`` is the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docker", action="store_true", help="a Docker Engine")
    parser.add_argument("--current-engine", action="store_true", help="today's Docker Engine, built with Go")
    parser.add_argument("--base-image", action="store_true", help="an engine and an image to build on")
    parser.add_argument("--postgresql", action="store_true", help="a PostgreSQL server")
    parser.add_argument("--registry", action="store_true", help="a container registry")
    parser.add_argument("--peer", action="store_true", help="caliban 0.4.2 from PyPI")
    parser.add_argument("--kubernetes", action="store_true", help="a one-node cluster, built with Go")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args(arguments)


def main() -> int:
    """Bring up, run, take down."""
    arguments = parse(sys.argv[1:])
    unwind_on_signals()
    try:
        with ExitStack() as stack:
            environment = {**os.environ, **bring_up(arguments, stack)}
            # The last in is the first out: taking down is not cut short.
            stack.callback(ignore_signals)
            return run_command(arguments.command, environment)
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except Failure as failure:
        say(failure.message)
        if failure.hint:
            say(f"hint: {failure.hint}")
        return NOT_BROUGHT_UP


if __name__ == "__main__":
    sys.exit(main())
