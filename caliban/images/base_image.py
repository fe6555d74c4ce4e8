"""What a base image sets up for the programs that run in it, and what of it an image of ours keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from caliban.images.entrypoint import Entrypoint
from caliban.records import ImageRef

APP = "/usr/app"
"""The working directory of containers, with the code, as in caliban 0.4.2."""
SUPPORT = "/opt/caliban"
"""Where the files are that the build needs."""

LABELS = {"caliban": "image"}
"""The labels of images that caliban builds: ``docker images --filter label=caliban``."""

_HOME = "/home/caliban"
_HOME_ELSEWHERE = f"{SUPPORT}/home"
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_READS_CONTEXT = re.compile(r"\s*(?:COPY|ADD)\s+(?!.*--from=)", re.IGNORECASE)
_IN_HOME = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
_SEARCH_PATHS = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DIR", "MAMBA_ROOT_PREFIX")


@dataclass(frozen=True)
class BaseImage:
    """A base image. The default is one that sets up nothing.

    Attributes:
        environ: its environment variables.
        entrypoint: its entrypoint, and what of it runs the program that it is given.
        user: whom its programs run as: a name or uid, with ``:`` and a group or without; "" for root.
        triggers: its ONBUILD instructions.
        volumes: its anonymous volumes.
        is_ours: whether caliban built it.
    """

    environ: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Entrypoint = field(default_factory=Entrypoint)
    user: str = ""
    triggers: tuple[str, ...] = ()
    volumes: tuple[PurePosixPath, ...] = ()
    is_ours: bool = False

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> BaseImage:
        """Read ``Config`` of ``GET /images/NAME/json``; what is not as it should be counts as not set.

        The entrypoint is taken as it is; see :func:`caliban.images.entrypoint.split`.
        """
        pairs = (each.partition("=") for each in _texts(config.get("Env")))
        volumes, labels = config.get("Volumes"), config.get("Labels")
        user = config.get("User")
        return cls(
            environ={name: value for name, _, value in pairs},
            entrypoint=Entrypoint(dropped=_texts(config.get("Entrypoint"))),
            is_ours=isinstance(labels, Mapping) and LABELS.items() <= labels.items(),
            user=user if isinstance(user, str) else "",
            triggers=_texts(config.get("OnBuild")),
            volumes=tuple(map(PurePosixPath, sorted(volumes))) if isinstance(volumes, Mapping) else (),
        )

    def with_entrypoint(self, entrypoint: Entrypoint) -> BaseImage:
        """Return the same image, its entrypoint looked at."""
        return replace(self, entrypoint=entrypoint)

    @property
    def passwd_entry(self) -> str:
        """A regular expression for the first four fields of the user's entry in ``/etc/passwd``."""
        name = self.user.partition(":")[0]
        if name.isdecimal() and name.isascii():
            return f"[^:]*:[^:]*:{name}:[^:]*:"
        return f"{name if _PLAIN_NAME.fullmatch(name) else 'root'}:[^:]*:[^:]*:[^:]*:"

    @property
    def home(self) -> str | None:
        """The home directory for our user; None where nothing prevents the usual one.

        HOME of the base image is another user's directory, which ours may not write to; and what a step of a build
        writes into a volume is lost.
        """
        if self._volume_of(_HOME) is not None:
            return _HOME_ELSEWHERE
        return _HOME if "HOME" in self.environ else None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name the home directory, and directories in it, for our user."""
        home, former = self.home, self.environ.get("HOME")
        if home is None:
            return {}
        result = {"HOME": home}
        for name in _IN_HOME:
            value = self.environ.get(name, "")
            if former and PurePosixPath(value).is_relative_to(former):
                result[name] = str(PurePosixPath(home) / PurePosixPath(value).relative_to(former))
        return result

    @property
    def places(self) -> tuple[str, ...]:
        """What is kept of its entrypoint, and the paths in home directories that its environment variables name."""
        homes = ("/root/", "/home/", f"{self.environ.get('HOME', '/root')}/")
        values = (part for value in self.environ.values() for part in value.split(":"))
        return (*self.entrypoint.kept, *dict.fromkeys(each for each in values if each.startswith(homes)))

    def has_volume(self, path: str) -> bool:
        """Return whether a path is in one of its volumes."""
        return self._volume_of(path) is not None

    def warnings(self, name: ImageRef) -> Iterator[str]:
        """Yield a line for each thing that the base image set up and that an image of ours cannot keep.

        Args:
            name: its reference.
        """
        if self.entrypoint.is_missed and not self.is_ours:
            shown = json.dumps(list(self.entrypoint.dropped), ensure_ascii=False)
            yield (
                f"the ENTRYPOINT of the base image {name} is not used, since it does not run the program that it is "
                f"given: {shown}"
            )
        for trigger in filter(_READS_CONTEXT.match, self.triggers):
            yield (
                f"the base image {name} has ONBUILD {trigger}, which gets caliban's build context instead of the "
                "project's directory"
            )
        for path in self._installed():
            volume = self._volume_of(path)
            if volume is not None:
                yield (
                    f"the base image {name} declares the volume {volume}: engines without BuildKit drop what the build "
                    "installs there"
                )
                return

    def _installed(self) -> Iterator[str]:
        for variable in _SEARCH_PATHS:
            yield from filter(None, self.environ.get(variable, "").split(":"))

    def _volume_of(self, path: str) -> PurePosixPath | None:
        return next((volume for volume in self.volumes if PurePosixPath(path).is_relative_to(volume)), None)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
