r"""Make text from stores, services, files and the environment safe to show.

A terminal interprets control characters, and shows text after a bidirectional control in another order than it has, so
what a name or a message contains of them could move the cursor, forge lines or hide words. They are shown as Python
writes them in a string: ``\x1b``, ``\n``, ``\u202e``.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]")
"""Letters, marks and symbols without a glyph: fillers, and selectors other than those that follow emoji.

Source: https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt (Default_Ignorable_Code_Point), and the
empty Braille pattern.
"""


def escaped(text: str, *, keep: str = "") -> str:
    """Return ``text`` in one line, with escapes for all that is not visible, and not in ``keep``.

    Letters, marks, digits, punctuation and symbols of all scripts stay, and so does the space. Controls, line breaks,
    other spaces, bidirectional and zero-width characters, surrogates, private and unassigned code points are escaped.
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    return "".join(char if _is_visible(char) or char in keep else _escape(char) for char in text)


def _is_visible(char: str) -> bool:
    return char.isprintable() and not _INVISIBLE.match(char)


def _escape(char: str) -> str:
    code = ord(char)
    if char in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[char]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
