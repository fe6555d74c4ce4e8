"""What Docker tells while it builds: steps, their output, the image, or why there is none."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.dockerfile import Instruction
from caliban.reporter import Progress, Reporter

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_BUILT = re.compile(r"Successfully built ([0-9a-f]+)")
# What the engine says about its own bookkeeping: intermediate images and containers.
_NOISE = re.compile(r" ---> (?!Using cache)|Removing intermediate container |Successfully built ")
_EXIT_CODE = re.compile(r"returned a non-zero code: (\d+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TOLD_LINES = 20
_STEP_WIDTH = 100


class BuildLog:
    """Follows one build event by event.

    Args:
        steps: the instructions of the Dockerfile, in order.
        reporter: gets the steps and their output.
        progress: counts the steps.
    """

    def __init__(self, steps: Sequence[Instruction], reporter: Reporter, progress: Progress) -> None:
        self.image: str | None = None
        """The image that was built, as the engine names it; None so far."""
        self._steps = steps
        self._reporter = reporter
        self._progress = progress
        self._number = 0
        self._tail: deque[str] = deque(maxlen=_TOLD_LINES)
        self._unfinished = ""

    def feed(self, event: Mapping[str, object]) -> None:
        """Take in one event of the engine's answer to ``POST /build``.

        Raises:
            ImageError: ``base-image-unavailable``, ``build-step-failed``, ``disk-full``: the event is an error.
        """
        if "error" in event or "message" in event:
            self._output("\n")
            raise self.failure(str(event.get("error") or event.get("message")).strip())
        aux = event.get("aux")
        if isinstance(aux, Mapping) and isinstance(aux.get("ID"), str):
            self.image = str(aux["ID"])
        elif isinstance(stream := event.get("stream"), str):
            self._output(stream)
        elif isinstance(event.get("status"), str):
            self._pull(str(event["status"]), event.get("id"))

    def failure(self, reason: str) -> ImageError:
        """Turn the engine's reason into advice, by the step that it happened in."""
        if "no space left on device" in reason or any("No space left on device" in line for line in self._tail):
            return ImageError(
                "disk-full",
                "the image was not built: the disk of the Docker Engine is full",
                cause=self._told(reason),
                hint="`docker system df` shows what takes the space, `docker image prune` removes unused images",
            )
        step = self._steps[self._number - 1] if 0 < self._number <= len(self._steps) else None
        if step is not None and self._number == 1:
            return ImageError(
                "base-image-unavailable",
                f"the image was not built: there is no {step.text.removeprefix('FROM ')} to build it from",
                cause=reason,
                hint=f"name another base_image in {CONFIG_FILE}, or see whether `docker pull` gets this one",
            )
        if step is None:
            return ImageError(
                "build-refused",
                "the image was not built: Docker refused the build",
                cause=reason,
                hint="`docker version` shows the engine; one of version 20.10 or later is needed",
            )
        code = _EXIT_CODE.search(reason)
        ending = f"with exit code {code.group(1)}" if code else "in the engine"
        return ImageError(
            "build-step-failed",
            f"the image was not built: step {self._number} of {len(self._steps)}, {step.purpose}, failed {ending}",
            cause=self._told("" if code else reason),
            hint=step.remedy,
        )

    def _told(self, reason: str) -> str:
        return "\n".join([*self._tail, reason] if reason else self._tail)

    def _output(self, text: str) -> None:
        """Take in output, which comes in pieces that need not end where lines do; the engine colours standard error."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._line(_COLOUR.sub("", line).rstrip())

    def _line(self, line: str) -> None:
        if step := _STEP.fullmatch(line):
            self._number = int(step.group(1))
            self._tail.clear()
            self._progress.advance()
            known = self._number <= len(self._steps)
            self._progress.note(self._steps[self._number - 1].purpose if known else "finishing")
            self._reporter.info(line if len(line) <= _STEP_WIDTH else line[: _STEP_WIDTH - 3] + "...")
        elif built := _BUILT.match(line):
            self.image = self.image or built.group(1)
        elif line and not _NOISE.match(line):
            if not line.startswith(" ---> "):
                self._tail.append(line)
            self._reporter.info(line)

    def _pull(self, status: str, layer: object) -> None:
        self._progress.note(f"{layer}: {status}" if isinstance(layer, str) else status)
        if status.startswith(("Pulling from", "Digest", "Status")):
            self._reporter.info(status)
