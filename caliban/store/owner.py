"""Which process owns a submission, and whether it is still running, without comparing clocks."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from enum import Enum, unique
from functools import lru_cache
from pathlib import Path

from caliban.attempts import Owner

_ENDED = frozenset("ZX")
"""State letters of processes that have ended and were not waited for yet."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@unique
class Presence(Enum):
    """What can be seen of a process from here."""

    RUNNING = "running"
    ENDED = "ended"
    OUT_OF_SIGHT = "out of sight"
    """It runs, or ran, in another system, container or boot, or on a system without ``/proc``: its lease decides."""


def this_process() -> Owner:
    """Return the calling process."""
    return _owner(os.getpid())


@lru_cache(maxsize=1)
def _owner(pid: int) -> Owner:
    if not _proc_shows(pid):
        return Owner(machine_id(), _boot(), None, pid, None)
    return Owner(machine_id(), _boot(), _namespaces(), pid, _started(pid))


def _proc_shows(pid: int) -> bool:
    """Return whether ``/proc`` has the process ids of this process's namespace, and not those of an outer one.

    ``unshare --pid --fork`` alone leaves ``/proc`` as it was. ``NSpid`` lists the ids of a process from the namespace
    that ``/proc`` shows down to its own. Source: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    """
    try:
        if str(Path("/proc/self").readlink()) != str(pid):
            return False
        status = Path("/proc/self/status").read_text("utf-8", "replace")
    except OSError:
        return False
    nested = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return not nested or nested[0] == [str(pid)]


def presence(owner: Owner) -> Presence:
    """Return whether a process runs, as far as that is certain.

    It is, within one boot of a system and the same namespaces for process ids: there a process id and the start of the
    process, in clock ticks after the boot, belong to one process, however often ids are reused and clocks changed.
    Namespaces of time count too, as they shift what ``/proc`` shows of the start.
    """
    here = this_process()
    if owner.boot is None or owner.started is None or _place(owner) != _place(here):
        return Presence.OUT_OF_SIGHT
    if not _exists(owner.pid):
        return Presence.ENDED
    try:
        state, started = _state_and_start(owner.pid)
    except (OSError, ValueError):
        return Presence.OUT_OF_SIGHT  # /proc hides the processes of other users (hidepid)
    return Presence.RUNNING if started == owner.started and state not in _ENDED else Presence.ENDED


def has_ended(pid: int) -> bool:
    """Return whether no process of this id runs here: in the namespaces of this process, if it had the id there."""
    if not _exists(pid):
        return True
    try:
        return _state_and_start(pid)[0] in _ENDED
    except (OSError, ValueError):
        return False


def _exists(pid: int) -> bool:
    """Return whether there is a process of this id, which may have ended without having been waited for."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # that of another user
    except (ProcessLookupError, OverflowError, TypeError):  # the last two: the recorded value is not a process id
        return False
    return True


def to_text(owner: Owner) -> str:
    """Return what ``batches.owner`` stores; equal owners have equal texts."""
    return json.dumps(asdict(owner), sort_keys=True)


def from_text(text: str) -> Owner:
    """Read what :func:`to_text` returned; a malformed text is a process that is out of sight."""
    try:
        raw = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raw = None
    fields = raw if isinstance(raw, dict) else {}
    texts = [fields.get(name) for name in ("machine", "boot", "namespaces")]
    numbers = [fields.get(name) for name in ("pid", "started")]
    machine, boot, namespaces = (value if isinstance(value, str) else None for value in texts)
    pid, started = (value if type(value) is int else None for value in numbers)
    return Owner(machine, boot, namespaces, pid if pid and pid > 0 else 0, started if pid and pid > 0 else None)


def _place(owner: Owner) -> tuple[str | None, ...]:
    return owner.machine, owner.boot, owner.namespaces


@lru_cache(maxsize=1)
def machine_id() -> str | None:
    """Return an id derived from that of the system, which itself should not be shown to others.

    Source: https://www.freedesktop.org/software/systemd/man/latest/machine-id.html
    """
    for file in _MACHINE:
        if text := _read(file):
            return hashlib.sha256(f"caliban {text}".encode()).hexdigest()[:16]
    return None


def _boot() -> str | None:
    """Return the id of the running boot of the kernel, which containers share with their host.

    Source: https://man7.org/linux/man-pages/man4/random.4.html
    """
    return _read(_BOOT)


def _namespaces() -> str | None:
    """Return the namespaces of process ids and of time.

    Source: https://man7.org/linux/man-pages/man7/namespaces.7.html
    """
    try:
        pids = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    try:
        return f"{pids} {Path('/proc/self/ns/time').readlink()}"
    except OSError:  # before Linux 5.6
        return str(pids)


def _started(pid: int) -> int | None:
    try:
        return _state_and_start(pid)[1]
    except (OSError, ValueError):
        return None


def _state_and_start(pid: int) -> tuple[str, int]:
    """Return the state letter of a process, and its start in clock ticks after the boot.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html

    Raises:
        OSError: there is no such process, or no ``/proc``.
        ValueError: it has another format.
    """
    # the program's name, in parentheses, may hold any characters
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError(f"unexpected content of /proc/{pid}/stat")
    return fields[0], int(fields[19])


def _read(file: Path) -> str | None:
    try:
        return file.read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None
