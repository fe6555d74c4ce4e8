"""The arguments of ``docker run`` that users give (``--docker_run_args``): parsed as docker does, and checked.

caliban creates a container with ``docker create``, starts it, follows it by its id and reads its exit code. What
``--rm`` and ``--detach`` mean it does itself: the engine would remove the exit code together with the container. Flags
that would take one of these steps away from it are rejected.

Sources: https://docs.docker.com/reference/cli/docker/container/run/ for the flags, and for their notation (``-itd``,
``-eA=1``, ``--rm=true``) https://pkg.go.dev/github.com/spf13/pflag. The first word that is no flag is the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_SHORT = {
    "a": "attach",
    "c": "cpu-shares",
    "d": "detach",
    "e": "env",
    "h": "hostname",
    "i": "interactive",
    "l": "label",
    "m": "memory",
    "p": "publish",
    "P": "publish-all",
    "q": "quiet",
    "t": "tty",
    "u": "user",
    "v": "volume",
    "w": "workdir",
}
_SWITCH_NAMES = """
detach disable-content-trust help init interactive no-healthcheck oom-kill-disable privileged publish-all quiet
read-only rm sig-proxy tty use-api-socket
"""
_VALUE_NAMES = """
add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-count
cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach-keys
device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops dns dns-opt dns-option
dns-search domainname entrypoint env env-file expose gpus group-add health-cmd health-interval health-retries
health-start-interval health-start-period health-timeout hostname io-maxbandwidth io-maxiops ip ip6 ipc isolation
kernel-memory label label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap
memory-swappiness mount name net net-alias network network-alias oom-score-adj pid pids-limit platform publish pull
restart runtime security-opt shm-size stop-signal stop-timeout storage-opt sysctl tmpfs ulimit user userns uts volume
volume-driver volumes-from workdir
"""
_SWITCHES = frozenset(_SWITCH_NAMES.split())
_WITH_VALUE = frozenset(_VALUE_NAMES.split())
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))

_OWN_LABELS = re.compile(r"caliban(\.[^=]*)?(=.*)?", re.DOTALL)
_RESTART = re.compile(r"(no|on-failure(:\d+)?)?")
_REJECTED = {
    "name": ("caliban names the containers", "the names of containers are shown by: docker ps --all"),
    "cidfile": ("caliban records the ids of containers", "containers are listed by: docker ps --all"),
    "help": ("it is no setting of a container", "for the flags of docker run, run: docker run --help"),
    # of Podman's docker command
    "replace": ("it would remove another container", "remove containers with: docker rm"),
    "rmi": ("the image is needed by a rerun", "remove images with: docker image rm"),
}
_OF_RUN = frozenset(("detach", "detach-keys", "rm", "sig-proxy"))
"""Not for ``docker create``. It does not have the first, second and last."""

_FOLLOWS = "caliban follows the output of a job, and does not attach to its container"
_OF_TERMINALS: Mapping[str, tuple[str, str]] = {
    "attach": (_FOLLOWS, "to leave out what a job writes to a stream, redirect that of caliban: 2>/dev/null"),
    "detach-keys": (_FOLLOWS, "to run jobs in the background, use --detach"),
    "sig-proxy": ("Ctrl-C stops a job that caliban follows", "to run jobs in the background, use --detach"),
}
"""What ``docker run`` does with its terminal. They change nothing in the container, and are used in recorded jobs."""

_INIT_PROGRAMS = frozenset(
    ("catatonit", "docker-init", "dumb-init", "init", "my_init", "runit", "s6-svscan", "systemd", "tini", "tini-static")
)
_HELP_LINE = re.compile(r"^\s+(?:-(?P<short>\w), )?--(?P<name>[\w-]+)(?: (?P<type>[\w-]+))?(?:\s{2,}.*)?$")

ClientFlags = Mapping[str, bool]
"""Flag, without dashes -> whether it takes a value."""


class RunArgumentsError(Exception):
    """The arguments cannot be passed to docker.

    Attributes:
        problem: what is wrong, in one line.
        hint: what to do.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class UnknownFlagError(RunArgumentsError):
    """A flag that is not in this module's tables."""

    def __init__(self, flag: str) -> None:
        super().__init__(f"unknown flag: {flag}", "for the flags of docker run, run: docker run --help")


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: the long name, without dashes.
        value: of a flag that takes one; ``true`` or ``false`` of one that does not.
        words: how it is passed to docker.
    """

    name: str
    value: str
    words: tuple[str, ...]

    @property
    def is_on(self) -> bool:
        """Whether a flag without a value is set."""
        return self.value in _TRUE

    @property
    def text(self) -> str:
        """The flag with its value, as it was given."""
        return " ".join(self.words)

    @property
    def shown(self) -> str:
        """The flag alone, for people."""
        return f"--{self.name}=false" if self.value in _FALSE and self.name in _SWITCHES else f"--{self.name}"


@dataclass(frozen=True)
class RunArguments:
    """The arguments of one ``docker run``.

    Attributes:
        flags: in order.
        rest: what follows: the image and its arguments.
    """

    flags: tuple[Flag, ...]
    rest: tuple[str, ...]

    @property
    def removes(self) -> bool:
        """Whether the container is removed when it has ended."""
        return self._is_on("rm")

    @property
    def detaches(self) -> bool:
        """Whether the job runs in the background."""
        return self._is_on("detach")

    @property
    def pulls(self) -> bool:
        """Whether the image is downloaded even if the engine has it."""
        return self._last("pull") == "always"

    @property
    def platform(self) -> str | None:
        """For which operating system and processor the image is, such as ``linux/arm64``; None if it is not said."""
        return self._last("platform")

    @property
    def chooses_user(self) -> bool:
        """Whether they say which user of the machine the program is."""
        return any(flag.name in ("user", "userns") for flag in self.flags)

    def for_create(self) -> list[str]:
        """Return the flags as ``docker create`` takes them."""
        return [word for flag in self.flags if flag.name not in _OF_RUN for word in flag.words]

    @property
    def chooses_init(self) -> bool:
        """Whether the user says if the container has an init process."""
        return self._last("init") is not None

    @property
    def entrypoint(self) -> str | None:
        """What runs instead of the image's entrypoint; None where that runs."""
        return self._last("entrypoint") or None

    @property
    def stop_seconds(self) -> int | None:
        """What ``--stop-timeout`` says; None where it is not given."""
        given = self._last("stop-timeout") or ""
        return int(given) if re.fullmatch(r"-?\d{1,9}", given) else None

    @property
    def words(self) -> tuple[str, ...]:
        """The flags as they are recorded."""
        return tuple(word for flag in self.flags for word in flag.words)

    def without_effect(self) -> list[Flag]:
        """Return the flags that caliban cannot honour, and that change nothing in the container."""
        return [
            flag for flag in self.flags if flag.name in _OF_TERMINALS and not (flag.name == "sig-proxy" and flag.is_on)
        ]

    def _is_on(self, name: str) -> bool:
        return self._last(name) in _TRUE

    def _last(self, name: str) -> str | None:
        """Return the value of a flag; docker uses the last one."""
        return next((flag.value for flag in reversed(self.flags) if flag.name == name), None)


def parse(words: Sequence[str], client_flags: Callable[[], ClientFlags] = dict) -> RunArguments:
    """Split the words of a ``docker run`` command, without these two, into flags and what follows.

    Args:
        words: the words.
        client_flags: returns the flags of the docker client that is installed; called for a flag that is unknown here.

    Raises:
        RunArgumentsError: a flag is unknown or has no value, or a wrong one.
    """
    left = list(words)
    flags: list[Flag] = []
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        flags.extend(_long(word, left, client_flags) if word.startswith("--") else _short(word, left, client_flags))
    return RunArguments(tuple(flags), tuple(left))


def check(arguments: RunArguments) -> None:
    """Check that caliban can honour each flag.

    Raises:
        RunArgumentsError: naming the flag that it cannot.
    """
    for flag in arguments.flags:
        if flag.name in _REJECTED:
            why, hint = _REJECTED[flag.name]
            raise RunArgumentsError(f"--{flag.name} cannot be used: {why}", hint)
        if flag.name == "label" and _OWN_LABELS.fullmatch(flag.value):
            raise RunArgumentsError(
                f'--label "{flag.value}" cannot be used: labels that start with caliban. are its own',
                "use a label of another name",
            )
        if flag.name == "restart" and not _RESTART.fullmatch(flag.value):
            raise RunArgumentsError(
                f'--restart "{flag.value}" cannot be used: the job would never end',
                "use --restart on-failure:N to have a job that fails started again, N times at most",
            )


def parse_given(words: Sequence[str], client_flags: Callable[[], ClientFlags] = dict) -> RunArguments:
    """Parse and check the flags that a user gave, which an image is to follow.

    Raises:
        RunArgumentsError: naming what cannot be used.
    """
    arguments = parse(words, client_flags)
    if arguments.rest or "--" in words[-1:]:
        unexpected = arguments.rest[0] if arguments.rest else "--"
        raise RunArgumentsError(
            f'"{unexpected}" is no flag: docker would take it for the image',
            "give the arguments of your code after --, as in: caliban run train.py -- --epochs 3",
        )
    check(arguments)
    return arguments


def parse_typed(words: Sequence[str], client_flags: Callable[[], ClientFlags] = dict) -> RunArguments:
    """Do the same for the flags of a command that is typed now, which need not be accepted because a job has them.

    Raises:
        RunArgumentsError: naming what cannot be used.
    """
    arguments = parse_given(words, client_flags)
    for flag in arguments.without_effect():
        why, hint = _OF_TERMINALS[flag.name]
        raise RunArgumentsError(f"{flag.shown} cannot be used: {why}", hint)
    return arguments


def is_init(program: str) -> bool:
    """Return whether a program is an init process itself, and may refuse to run under another one."""
    return program.rpartition("/")[2] in _INIT_PROGRAMS


def is_known(name: str) -> bool:
    """Return whether a flag, without dashes, is in this module's tables."""
    return name in _SWITCHES or name in _WITH_VALUE or name in _REJECTED


def parse_help(text: str) -> ClientFlags:
    """Return the flags in the output of ``docker create --help``."""
    found = {}
    for line in text.splitlines():
        if match := _HELP_LINE.match(line):
            found[match["name"]] = match["type"] is not None
            if match["short"]:
                found[match["short"]] = match["type"] is not None
    return found


def _long(word: str, left: list[str], client_flags: Callable[[], ClientFlags]) -> Iterator[Flag]:
    name, separator, value = word[2:].partition("=")
    if not _takes_value(name, f"--{name}", client_flags):
        yield Flag(name, _switch(name, value if separator else "true"), (word,))
    elif separator:
        yield Flag(name, value, (word,))
    else:
        value = _next(f"--{name}", left)
        yield Flag(name, value, (word, value))


def _short(word: str, left: list[str], client_flags: Callable[[], ClientFlags]) -> Iterator[Flag]:
    """Yield the flags of a word like ``-it``, ``-d=false`` or ``-v/data:/data``."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter, letter)
        takes_value = _takes_value(name, f"-{letter}", client_flags)
        if letters.startswith("=") and len(letters) > 1:
            value = letters[1:]
            yield Flag(name, value if takes_value else _switch(name, value), (f"-{letter}={value}",))
            return
        if not takes_value:
            yield Flag(name, "true", (f"-{letter}",))
        elif letters:
            yield Flag(name, letters, (f"-{letter}{letters}",))
            return
        else:
            value = _next(f"-{letter}", left)
            yield Flag(name, value, (f"-{letter}", value))


def _takes_value(name: str, flag: str, client_flags: Callable[[], ClientFlags]) -> bool:
    if name in _SWITCHES or name in _WITH_VALUE:
        return name in _WITH_VALUE
    if name in _REJECTED:  # of another client
        return False
    known = client_flags()
    if name not in known:
        raise UnknownFlagError(flag)
    return known[name]


def _switch(name: str, value: str) -> str:
    if value not in _TRUE | _FALSE:
        raise RunArgumentsError(f'--{name}: expected true or false, got "{value}"', f"write --{name} or --{name}=false")
    return value


def _next(flag: str, left: list[str]) -> str:
    if not left:
        raise RunArgumentsError(f"{flag} needs a value", "for the flags of docker run, run: docker run --help")
    return left.pop(0)
