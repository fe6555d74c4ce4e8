"""Errors that nobody foresees, raised in a process of the fork server before or while it runs a command."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import NoReturn


class UnspeakableError(Exception):
    """An error that cannot describe itself."""

    def __str__(self) -> str:
        raise ValueError("no words")


def _recurse(*args: object, **kwargs: object) -> object:
    return [_recurse(*args, **kwargs)]


def _unencodable(*args: object, **kwargs: object) -> object:
    return "\udcff".encode()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ZeroDivisionError": lambda: ZeroDivisionError("division by zero"),
    "MemoryError": MemoryError,
    "OSError": lambda: OSError(5, "Input/output error", "/some/file"),
    "FileNotFoundError": lambda: FileNotFoundError(2, "No such file or directory"),
    "RuntimeError": lambda: RuntimeError("two\nlines with \x1b[31m colour"),
    "BrokenPipeError": BrokenPipeError,
    "UnspeakableError": UnspeakableError,
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "text": lambda: SystemExit("a text in place of a code"),
    "secret": lambda: ValueError("tcp://totoro:hunter2@lab, planted-secret"),
}


def fail(place: str, error: str) -> Callable[[], None]:
    """Let a function or method raise: ``caliban.commands.version:version``. Return what is done afterwards: nothing."""
    module_name, _, path = place.partition(":")
    owner: object = importlib.import_module(module_name)
    *parts, name = path.split(".")
    for part in parts:
        owner = getattr(owner, part)

    def raise_it(*args: object, **kwargs: object) -> NoReturn:
        raise ERRORS[error]()

    failing = {"RecursionError": _recurse, "UnicodeEncodeError": _unencodable}.get(error, raise_it)
    setattr(owner, name, failing)
    return lambda: None


def fail_in_a_thread(place: str) -> Callable[[], None]:
    """Let a function start a thread that fails, and return nothing."""
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    before = getattr(module, name)

    def start(*args: object, **kwargs: object) -> object:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        return before(*args, **kwargs)

    setattr(module, name, start)
    return lambda: None


def fail_to_delete(place: str) -> Callable[[], None]:
    """Let a function delete an object that fails when it is deleted."""
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    before = getattr(module, name)

    class Undeletable:
        def __del__(self) -> None:
            raise ZeroDivisionError

    def delete(*args: object, **kwargs: object) -> object:
        Undeletable()
        return before(*args, **kwargs)

    setattr(module, name, delete)
    return lambda: None


def fail_while_submitting() -> Callable[[], None]:
    """Let the platform TEST fail in ``submit`` in a way that passes every boundary between there and the process."""
    from tests.conftest import fake_platform

    def submit(*args: object) -> NoReturn:
        raise GeneratorExit

    platform = fake_platform("FakePlatform")
    platform.__enter__().expect("submit", submit)

    def remove() -> None:
        platform.__exit__(None, None, None)

    return remove


def fail_once(place: str, error: str) -> Callable[[], None]:
    """Let a function raise when it is called first, and work afterwards."""
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    before = getattr(module, name)

    def raise_it(*args: object, **kwargs: object) -> NoReturn:
        setattr(module, name, before)
        raise ERRORS[error]()

    setattr(module, name, raise_it)
    return lambda: None


def fail_at_the_second_submission() -> Callable[[], None]:
    """Let the platform TEST accept a job, and then fail in a way that passes every boundary."""
    from tests.conftest import fake_platform

    def submit(*args: object) -> NoReturn:
        raise GeneratorExit

    platform = fake_platform("FakeForegroundPlatform")
    service = platform.__enter__()
    service.is_detached = True
    service.expect("submit", service.accept, submit)

    def remove() -> None:
        platform.__exit__(None, None, None)

    return remove
