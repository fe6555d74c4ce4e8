"""Find the name that a mistyped one was probably meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MIN_PREFIX = 2
_MIN_SIMILARITY = 0.75
"""Ratio of :class:`difflib.SequenceMatcher`: ``staus`` and ``status`` have 0.91, ``jobs`` and ``all_jobs`` 0.73."""


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the only name that begins with ``word``, else one that differs in a letter or two, else None.

    Dashes, underscores and case are ignored: ``--no-gpu`` is close to ``--nogpu``.
    """
    import difflib

    wanted = _letters_of(word)
    by_letters = {_letters_of(name): name for name in names}
    completions = [name for letters, name in by_letters.items() if letters.startswith(wanted)]
    if len(wanted) >= _MIN_PREFIX and len(completions) == 1:
        return completions[0]
    near = difflib.get_close_matches(wanted, by_letters, n=1, cutoff=_MIN_SIMILARITY)
    return by_letters[near[0]] if near else None


def _letters_of(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()
