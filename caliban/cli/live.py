"""A listing on a terminal that is redrawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LiveListing:
    """A listing that is redrawn.

    Attributes:
        size: returns the size of the terminal, which may change.
        draw: draws lines over those before; each is cut to a row, and those that do not fit are left out.
    """

    size: Callable[[], os.terminal_size]
    draw: Callable[[Sequence[str]], None]
