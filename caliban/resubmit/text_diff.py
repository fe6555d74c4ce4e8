"""The difference of two texts in lines: how many there are, and as ``diff -u`` writes it. Pure, at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

_MAX_CELLS = 4_000_000
"""Lines of one text times lines of the other that are compared, at most; longer ones are replaced as a whole."""

_CONTEXT = 3

_Opcode = tuple[str, int, int, int, int]


def lines_of(content: bytes) -> list[str]:
    r"""Return the lines of a text with their ends; only ``\n`` ends a line, as for ``diff``."""
    parts = content.decode("utf-8", "backslashreplace").split("\n")
    ended = [f"{part}\n" for part in parts[:-1]]
    return [*ended, parts[-1]] if parts[-1] else ended


def count_changes(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """Return how many lines were added and removed."""
    added = removed = 0
    for tag, start, end, new_start, new_end in _opcodes(before, after):
        if tag != "equal":
            removed += end - start
            added += new_end - new_start
    return added, removed


def hunks(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield the hunks of a unified diff, in lines without their ends."""
    matcher: SequenceMatcher[str] = SequenceMatcher(None, "", "")
    matcher.opcodes = _opcodes(before, after)  # type: ignore[attr-defined]  # where it keeps what it found
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                yield from _marked(" ", before[start:end])
                continue
            yield from _marked("-", before[start:end])
            yield from _marked("+", after[new_start:new_end])


def _opcodes(before: Sequence[str], after: Sequence[str]) -> list[_Opcode]:
    shorter = min(len(before), len(after))
    head = next((index for index in range(shorter) if before[index] != after[index]), shorter)
    tail = next((n for n in range(shorter - head) if before[-1 - n] != after[-1 - n]), shorter - head)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    if len(old) * len(new) <= _MAX_CELLS:
        middle = [
            (str(tag), a + head, b + head, c + head, d + head)
            for tag, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes()
        ]
    else:
        middle = [("replace", head, head + len(old), head, head + len(new))]
    start = [("equal", 0, head, 0, head)] if head else []
    ends = (len(before) - tail, len(before), len(after) - tail, len(after))
    return [*start, *middle, *([("equal", *ends)] if tail else [])]


def _range(start: int, stop: int) -> str:
    """Return a range of lines as POSIX writes it: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/diff.html."""
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
