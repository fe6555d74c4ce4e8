"""The table of crash points: where a process is killed, chosen from what a run without a crash passes.

A recording notes every line of caliban that a command passes (the interpreter's own ``line`` events, so the table grows
with the code) and every effect between them: commits to the database, and requests to the service. Looked at is what
lies between the first commit and the last. There the process is killed

- just before and just after every effect;
- in every function that is passed between two changes (a commit, or a request that asks for one), at the first of its
  lines there. Two such lines are taken for the same when function, the change before and the change after are the same
  in kind: between two changes nothing that outlives the process is different, so it does not matter at which of a
  function's lines it dies. The same function between changes of other kinds is another point; in the table of another
  command it is not repeated.

That is the table of AI Platform. Those of the other services are made in the same way, and then only hold what differs
from service to service: the points inside caliban's platforms, and those around the requests. What is left out is the
code around them, which is the same for all and was killed at each of its points already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.safety.traced import Event, Point


def read_recording(path: Path) -> list[Event]:
    """What :class:`~tests.safety.traced.Watch` wrote."""
    return [Event(*event) for event in json.loads(path.read_text())]


_CHANGES = frozenset({"commit", "POST service"})

Seen = set[tuple[str, str, str, str]]
"""File, function, and the kinds of the effects before and after."""


def is_about_the_service(event: Event) -> bool:
    """Whether an event is one that differs from service to service: a request, or a line of a platform."""
    return event.place.startswith("platforms/") if event.line else event.function != "commit"


def crash_points(
    events: Sequence[Event], seen: Seen, is_wanted: Callable[[Event], bool] = lambda event: True
) -> list[Point]:
    """The table of one recording, in the order in which the points are reached.

    Args:
        events: the recording.
        seen: what is in the tables of other recordings already, and left out of this one; this one's is added.
        is_wanted: at which events it is to be killed.
    """
    effects = [index for index, event in enumerate(events) if not event.line]
    commits = [index for index in effects if events[index].function == "commit"]
    first, last = commits[0], commits[-1]
    changes = [index for index in effects if events[index].function in _CHANGES]
    kinds = [events[index].function for index in changes]
    reached: Counter[tuple[str, int]] = Counter()
    points: list[Point] = []
    passed = changed = 0
    for index, event in enumerate(events):
        if not event.line:
            passed += 1
            changed += index in changes
            if first <= index <= last and is_wanted(event):
                points += [Point("before", 0, event.function, passed), Point("after", 0, event.function, passed)]
            continue
        reached[event.place, event.line] += 1
        if first < index < last and is_wanted(event):
            key = (event.place, event.function, kinds[changed - 1], kinds[changed])
            if key not in seen:
                seen.add(key)
                points.append(Point(event.place, event.line, event.function, reached[event.place, event.line]))
    return points
