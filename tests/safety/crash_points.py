"""Tables of crash points: where a process is killed, selected from the recording of a run without a crash.

A recording contains every line of caliban that a command executes (the interpreter's ``line`` events, so tables grow
with the code) and every effect between them: commits to the database, and requests to the service. Between the first
and the last commit, the process is killed

- immediately before and after every effect;
- in every function that is executed between two changes (a commit, or a request that creates something), at its first
  line there. Two such lines count as equal if the function and the kinds of the previous and the next change are equal:
  between two changes nothing that outlives the process differs, so it does not matter at which line of a function the
  process dies. The same function between changes of other kinds is another point. A point in the table of one command
  is not repeated in that of another.

That is the table of AI Platform. The tables of the other services are made in the same way, but contain only what is
specific to a service: points in caliban's platforms, and around requests. The remaining code is common to all services,
and was killed at each of its points already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.safety.tracing import Event, Point


def read_recording(path: Path) -> list[Event]:
    """Return the events that :class:`~tests.safety.tracing.Tracer` wrote."""
    return [Event(*event) for event in json.loads(path.read_text())]


_CHANGES = frozenset({"commit", "POST service"})

Seen = set[tuple[str, str, str, str]]
"""File, function, and the kinds of the changes before and after."""


def is_service_specific(event: Event) -> bool:
    """Return whether an event is specific to the service: a request, or a line of a platform."""
    return event.location.startswith("platforms/") if event.line else event.function != "commit"


def crash_points(
    events: Sequence[Event], seen: Seen, is_selected: Callable[[Event], bool] = lambda event: True
) -> list[Point]:
    """Return the table of one recording, in the order in which the points are reached.

    Args:
        events: the recording.
        seen: what the tables of other recordings contain, which is left out; the new points are added.
        is_selected: at which events the process is killed.
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
            if first <= index <= last and is_selected(event):
                points += [Point("before", 0, event.function, passed), Point("after", 0, event.function, passed)]
            continue
        reached[event.location, event.line] += 1
        if first < index < last and is_selected(event):
            key = (event.location, event.function, kinds[changed - 1], kinds[changed])
            if key not in seen:
                seen.add(key)
                points.append(Point(event.location, event.line, event.function, reached[event.location, event.line]))
    return points
