"""Read the events of a build: steps, their output, the image, or the error."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.docker.base_image_errors import base_image_error
from caliban.images.docker.missing_tools import apt_hint
from caliban.images.instruction import Instruction
from caliban.redaction import hide_secrets
from caliban.reporter import Progress, Reporter

# Docker's and Podman's.
_STEP = re.compile(r"Step (\d{1,6})/(\d{1,6}) : (.*)|(?:\[1/1\] )?STEP (\d{1,6})/(\d{1,6}): (.*)")
_BUILT = re.compile(r"Successfully built ([0-9a-f]+)")
# Lines about intermediate images and containers.
_NOISE = re.compile(
    r" ---> (?!Using cache)|Removing intermediate container |Successfully built "
    r"|--> (?!Using cache)|COMMIT$|[0-9a-f]{64}$|Resolving .* \(enforced by caller\)$"
)
_CACHED = (" ---> ", "--> ")
# Docker's; Podman's message contains the whole instruction, and no output.
_EXIT_CODE = re.compile(r"returned a non-zero code: (\d+)|while running runtime: exit status (\d+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FULL_DISK = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_ONBUILD = re.compile(r"# Executing \d+ build triggers?")
_BUILD_FAILURES = (
    "metadata-generation-failed",
    "subprocess-exited-with-error",
    "Getting requirements to build",
    "Preparing metadata",
    "Failed to build",
    "Failed building wheel",
    "Command errored out with exit status",
    "does not appear to be a Python project",
)
"""What pip writes about a project that it cannot build."""
_TAIL_LINES = 20
_STEP_WIDTH = 100
_LONGEST_REASON = 20_000


class StepFailedError(ImageError):
    """A step of a build failed (``build-step-failed``).

    Attributes:
        step: which.
        is_of_pip: whether pip could not build a project, rather than find or download a package.
    """

    def __init__(self, step: Instruction, *, message: str, cause: str, hint: str, is_tool_missing: bool) -> None:
        super().__init__("build-step-failed", message, cause=cause, hint=hint)
        self.step = step
        self.is_of_pip = not is_tool_missing and any(sign in cause for sign in _BUILD_FAILURES)


class BuildLog:
    """Follows one build event by event.

    Args:
        steps: the instructions of the Dockerfile, in order.
        reporter: for the steps and their output.
        progress: counts the steps.
    """

    def __init__(self, steps: Sequence[Instruction], reporter: Reporter, progress: Progress) -> None:
        self.image: str | None = None
        """The image that was built, as the engine names it; None until then."""
        self._steps = steps
        self._reporter = reporter
        self._progress = progress
        self._number = 0
        self._missing: str | None = None
        self._has_triggers = False
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._unfinished = ""

    def feed(self, event: Mapping[str, object]) -> None:
        """Process one event of the engine's answer to ``POST /build``.

        Raises:
            ImageError: ``base-image-unavailable``, ``build-step-failed``, ``disk-full``: the event is an error.
        """
        if "error" in event or "message" in event:
            self._output("\n")
            raise self.failure(str(event.get("error") or event.get("message")).strip()[:_LONGEST_REASON])
        aux = event.get("aux")
        if isinstance(aux, Mapping) and isinstance(aux.get("ID"), str):
            self.image = str(aux["ID"])
        elif isinstance(stream := event.get("stream"), str):
            self._output(stream)
        elif isinstance(event.get("status"), str):
            self._pull(str(event["status"]), event.get("id"))

    @property
    def step(self) -> tuple[int, str]:
        """Number and purpose of the current step; 0 before the first."""
        if 0 < self._number <= len(self._steps):
            return self._number, self._steps[self._number - 1].purpose
        return self._number, "finish" if self._number else "start"

    def finish(self) -> None:
        """Report the last line, if no line break ends it."""
        if self._unfinished:
            self._output("\n")

    def failure(self, reason: str) -> ImageError:
        """Return the error for the engine's message, with a hint that fits the failed step."""
        reason = hide_secrets(reason)
        if _FULL_DISK.search(reason) or any(map(_FULL_DISK.search, self._tail)):
            return ImageError(
                "disk-full",
                "cannot build the image: the disk of the Docker Engine is full",
                cause=self._cause(reason),
                hint="show disk usage with: docker system df; remove unused images with: docker image prune",
            )
        step = self._steps[self._number - 1] if 0 < self._number <= len(self._steps) else None
        if step is None:
            return ImageError(
                "build-refused",
                "cannot build the image: the Docker Engine rejected the build",
                cause=reason,
                hint="check that the Docker Engine has version 20.10 or later: docker version",
            )
        code = _EXIT_CODE.search(reason)
        if self._number == 1 and code is None and not self._has_triggers:
            return base_image_error(step.text.removeprefix("FROM "), reason) or ImageError(
                "build-step-failed",
                f"cannot build the image: step 1 ({step.purpose}) failed",
                cause=reason,
                hint="for details, check the engine's log: journalctl -u docker",
            )
        is_trigger = self._number == 1
        purpose = "ONBUILD instructions of the base image" if is_trigger else step.purpose
        how = f" with exit code {code.group(1) or code.group(2)}" if code else ""
        return StepFailedError(
            step,
            message=f"cannot build the image: step {self._number} ({purpose}) failed{how}",
            cause=self._cause("" if code else reason),
            hint=self._missing or (f'set another "base_image" in {CONFIG_FILE}' if is_trigger else step.hint),
            is_tool_missing=self._missing is not None,
        )

    def _cause(self, reason: str) -> str:
        return "\n".join([*self._tail, reason] if reason else self._tail)

    def _output(self, text: str) -> None:
        """Process output, whose pieces need not end where lines do; the engine colours standard error."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._line(_COLOUR.sub("", line).rstrip())

    def _line(self, line: str) -> None:
        if self._begins_step(line):
            self._tail.clear()
            self._missing = None
            self._progress.advance()
            self._progress.note(self.step[1])
            line = self._shown_step() or line
            self._reporter.info(line if len(line) <= _STEP_WIDTH else line[: _STEP_WIDTH - 3] + "...")
        elif built := _BUILT.match(line):
            self.image = self.image or built.group(1)
        elif line and not _NOISE.match(line):
            line = hide_secrets(line[:_LONGEST_REASON])
            self._has_triggers = self._has_triggers or _ONBUILD.match(line) is not None
            if not line.startswith(_CACHED):
                self._tail.append(line)
                self._missing = apt_hint(line, CONFIG_FILE) or self._missing
            self._reporter.info(line)

    def _shown_step(self) -> str | None:
        """Return the line about a step whose instruction is not for people; None for any other."""
        known = self._number <= len(self._steps)
        shown = self._steps[self._number - 1].shown if known else None
        return None if shown is None else f"Step {self._number}/{len(self._steps) + 1} : {shown}"

    def _begins_step(self, line: str) -> bool:
        """Return whether a line is the engine's about the next step, not one of a program that counts steps too."""
        match = _STEP.fullmatch(line)
        if match is None:
            return False
        number, total, text = (group for group in match.groups() if group is not None)
        # The last step is the engine's own: it adds the labels.
        if not self._number < int(number) <= int(total) <= len(self._steps) + 1:
            return False
        if int(number) <= len(self._steps) and self._steps[int(number) - 1].text.split()[0] != text.split(" ")[0]:
            return False
        self._number = int(number)
        return True

    def _pull(self, status: str, layer: object) -> None:
        self._progress.note(f"{layer}: {status}" if isinstance(layer, str) else status)
        if status.startswith(("Pulling from", "Digest", "Status")):
            self._reporter.info(status)
