"""Apply changes of parameters to the recorded arguments and flags of an experiment. Pure.

The rules, which docs/resubmit.md shows by examples:

1. A parameter is changed where it is recorded, in its style: a flag among the arguments stays there (``--x=1`` becomes
   ``--x=2``), a flag of the experiment file stays one. Everything else keeps its value and its place.
2. A parameter that is not recorded is added: words after ``--`` behind the recorded arguments (before a recorded
   ``--``), keys of a file behind the flags of the experiment file.
3. Names are compared as they are written. Another spelling of a recorded name (``-lr``, ``--learning-rate`` for
   ``--learning_rate``, ``--no-x`` for ``--x``) is refused; abbreviations are not known.
4. A flag that occurs several times is changed in all places, in order, by as many; a flag with several values by as
   many. Anything else is refused: which of them is meant cannot be determined.
5. ``null`` removes every occurrence, each with its value; ``true`` is the flag without a value, ``false`` no flag.
6. Where the changed arguments would be read differently from what is meant, the change is refused.

Applying the same changes again changes nothing.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from caliban.errors import CalibanError, UsageError
from caliban.input_files import shortened
from caliban.records import ExperimentRecord, JsonObject
from caliban.resubmit.words import Part, Style, is_flag, join, split

Setting: TypeAlias = "str | int | float | bool | None"

Shown: TypeAlias = "str | bool | None"
"""A value as it is shown: ``True`` for a flag without one, None where there is no flag."""


@dataclass(frozen=True)
class Override:
    """Changes of parameters, of one experiment each.

    Attributes:
        parts: the words after ``--``.
        settings: of one combination of the experiment file, by name without dashes.
    """

    parts: tuple[Part, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterChange:
    """What becomes of one parameter.

    Attributes:
        flag: its name as it is written: ``--lr``.
        before, after: its value on the command line.
    """

    flag: str
    before: Shown
    after: Shown

    @property
    def text(self) -> str:
        """For people: ``--seed 3 -> 11``, ``--fast added``, ``--lr 0.1 removed``."""
        if self.before is None:
            return f"{_with_value(self.flag, self.after)} added"
        if self.after is None:
            return f"{_with_value(self.flag, self.before)} removed"
        return f"{self.flag} {_value_text(self.before)} -> {_value_text(self.after)}"


@dataclass(frozen=True)
class Applied:
    """The arguments and flags of an experiment after the changes, and what changed."""

    args: tuple[str, ...]
    kwargs: JsonObject
    changes: tuple[ParameterChange, ...]


def parse_words(words: Sequence[str]) -> tuple[Part, ...]:
    """Return what the words after ``--`` set.

    A positional word is refused rather than appended: which of the recorded words it would replace cannot be known,
    and typing the command twice would add it twice.

    Raises:
        UsageError: ``not-a-parameter``.
    """
    parts = split(words)
    for part in parts:
        if part.name is None:
            word = part.values[0]
            raise UsageError(
                "not-a-parameter",
                f'"{shortened(word)}" after -- is not a parameter',
                cause="which of the recorded arguments it would replace cannot be determined",
                hint="write --FLAG VALUE, --FLAG=VALUE or NAME=VALUE; for other positional arguments, use the "
                "submitting command with the same --xgroup",
            )
    return tuple(parts)


def check_conflicts(parts: Sequence[Part], settings: Mapping[str, Setting], source: str) -> None:
    """Check that no parameter is set twice.

    Raises:
        UsageError: ``conflicting-parameters``.
    """
    named = {_plain(part.name): part.name for part in parts if part.name}
    for key in settings:
        typed = named.get(_plain(key))
        if typed is not None:
            raise UsageError(
                "conflicting-parameters",
                f'"{shortened(typed)}" is set after --, and "{shortened(key)}" in {shortened(source)}',
                hint="set it in one of the two",
            )


def apply(experiment: ExperimentRecord, override: Override) -> Applied:
    """Return the arguments and flags of an experiment with the changes.

    Raises:
        CalibanError: ``ambiguous-parameter``: why, and what to write instead.
    """
    target = _Target(experiment.args, experiment.kwargs)
    typed: dict[str, list[Part]] = {}
    for part in override.parts:
        typed.setdefault(str(part.name), []).append(part)
    names = [*typed, *(f"--{key}" for key in override.settings)]
    _check_spellings(names, target.parts, target.kwargs)
    before = {name: target.shown(name) for name in names}
    for name, parts in typed.items():
        target.set_typed(name, parts)
    for key, value in override.settings.items():
        target.set_setting(key, value)
    target.check_reading()
    if len(names) > 1:
        _check_spellings(names, target.parts, target.kwargs)  # of the changes among each other
    after = {name: target.shown(name) for name in names}
    changes = (ParameterChange(name, before[name], after[name]) for name in names if before[name] != after[name])
    return Applied(join(target.parts), target.kwargs, tuple(changes))


class _Target:
    """The parameters of an experiment while they are changed.

    Attributes:
        parts: of its arguments.
        kwargs: its flags of an experiment file.
    """

    def __init__(self, args: Sequence[str], kwargs: JsonObject) -> None:
        self.parts = split(args)
        self.kwargs = dict(kwargs)

    def set_typed(self, name: str, typed: Sequence[Part]) -> None:
        """Change a parameter to what was typed after ``--``."""
        places = self._places(name)
        is_keyword = self._is_keyword(name, places)
        count = len(places) + is_keyword
        if count == 0:
            self._insert(typed)
            return
        if len(typed) != count:
            raise _ambiguous(
                name,
                f"it is recorded {_times(count)} and given {_times(len(typed))}",
                f"write it {_times(count)}, in the order of the recorded ones",
            )
        for place, part in zip(places, typed, strict=False):
            self.parts[place] = _replaced(self.parts[place], part)
        if is_keyword:
            self.kwargs[name[2:]] = _keyword_value(name, self.kwargs[name[2:]], typed[-1])

    def set_setting(self, key: str, value: Setting) -> None:
        """Change a parameter to what an experiment file has."""
        name = f"--{key}"
        places = self._places(name)
        if value is None or value is False:
            self._remove(places)
            if value is None:
                self.kwargs.pop(key, None)
            elif key in self.kwargs:
                self.kwargs[key] = False
            return
        is_keyword = self._is_keyword(name, places)
        if len(places) + is_keyword > 1:
            hint = "write it as often after --, in the order of the recorded ones"
            raise _ambiguous(name, f"it is recorded {_times(len(places) + is_keyword)}", hint)
        if places:
            typed = Part(name, Style.SEPARATE, () if value is True else (str(value),))
            self.parts[places[0]] = _replaced(self.parts[places[0]], typed)
        elif is_keyword:
            if not _is_same(self.kwargs[key], value):
                self.kwargs[key] = value
        else:
            self._add_keyword(key, value)

    def shown(self, name: str) -> Shown:
        """Return the value of a parameter on the command line."""
        found: list[Shown] = [
            shlex.join(part.values) if len(part.values) > 1 else part.values[0] if part.values else True
            for part in self.parts
            if part.name == name
        ]
        value = self.kwargs.get(name[2:], False) if name.startswith("--") else False
        if value is not False:
            found.append(True if value is True else str(value))
        if len(found) <= 1:
            return found[0] if found else None
        return ", ".join(map(_value_text, found))

    def check_reading(self) -> None:
        """Check that the changed arguments are read as what is meant.

        Raises:
            CalibanError: ``ambiguous-parameter``.
        """
        for part, found in zip(self.parts, split(join(self.parts)), strict=False):
            if part != found:
                name = next(each for each in (found.name, part.name, "the arguments") if each)
                hint = "submit it with the submitting command and the same --xgroup"
                words = shlex.join(found.words)
                raise _ambiguous(name, f"the changed arguments would be read as {shortened(words)}", hint)

    def _places(self, name: str) -> list[int]:
        return [place for place, part in enumerate(self.parts) if part.name == name]

    def _is_keyword(self, name: str, places: Sequence[int]) -> bool:
        """Whether it is a flag of the experiment file; one that is ``false`` there counts where it is nowhere else."""
        if not name.startswith("--") or name[2:] not in self.kwargs:
            return False
        return not (places and self.kwargs[name[2:]] is False)

    def _insert(self, typed: Sequence[Part]) -> None:
        end = len(self.parts) - bool(self.parts and self.parts[-1].ends_flags)
        self.parts[end:end] = typed

    def _add_keyword(self, key: str, value: Setting) -> None:
        if self.parts and self.parts[-1].ends_flags:
            hint = f"write it after --: -- --{key} ..."
            raise _ambiguous(f"--{key}", "the recorded arguments have a -- before the flags of the file", hint)
        self.kwargs[key] = value

    def _remove(self, places: Sequence[int]) -> None:
        for place in places:
            part = self.parts[place]
            if part.style is Style.SEPARATE and len(part.values) > 1:
                words, hint = shlex.join(part.words), "submit it with the submitting command and the same --xgroup"
                raise _ambiguous(str(part.name), f"which words of {shortened(words)} are its values is unknown", hint)
        for place in reversed(places):
            del self.parts[place]


def _replaced(recorded: Part, typed: Part) -> Part:
    """Return a part of the arguments with the values of another one."""
    name, values, before = str(recorded.name), typed.values, recorded.values
    if len(values) == len(before) <= 1 or (len(before) == 0 and len(values) == 1):
        pass
    elif len(values) != len(before) or recorded.style is not Style.SEPARATE:
        words = shlex.join(recorded.words)
        hint = f"write {len(before)} values" if len(before) > 1 else f"write {name}=VALUE"
        raise _ambiguous(name, f"it is recorded as {shortened(words)} and given with {_number(len(values))}", hint)
    if recorded.style is not Style.SEPARATE or not values:
        return Part(name, recorded.style, values)
    if len(values) == 1 and (is_flag(values[0]) or (not before and typed.style is Style.ATTACHED)):
        return Part(name, Style.ATTACHED, values)
    return Part(name, Style.SEPARATE, values)


def _keyword_value(name: str, recorded: object, typed: Part) -> object:
    """Return the value of a flag of the experiment file, in the type of the recorded one where the text is the same."""
    if not typed.values:
        if isinstance(recorded, bool):
            return True
        hint = f"write {name} VALUE, or set it to true with --experiment_config"
        raise _ambiguous(name, f"it is recorded with the value {shortened(str(recorded))} and given with none", hint)
    if len(typed.values) > 1:
        hint = f"write {name} VALUE"
        raise _ambiguous(name, f"it is recorded with one value and given with {len(typed.values)}", hint)
    text = typed.values[0]
    if is_flag(text):
        hint = "set it with --experiment_config"
        raise _ambiguous(name, f"{shortened(text)} would be read as a flag of its own", hint)
    if isinstance(recorded, bool) or not isinstance(recorded, int | float):
        return text
    if str(recorded) == text:
        return recorded
    for number in (int, float):
        try:
            if str(number(text)) == text and math.isfinite(number(text)):
                return number(text)
        except ValueError:
            continue
    return text


def _check_spellings(names: Sequence[str], parts: Sequence[Part], kwargs: JsonObject) -> None:
    """Refuse a name that may be a recorded parameter under another spelling.

    Raises:
        CalibanError: ``ambiguous-parameter``.
    """
    recorded = {part.name: bool(part.values) for part in parts if part.name}  # whether it has a value
    recorded.update({f"--{key}": not isinstance(value, bool) for key, value in kwargs.items()})
    nested = {_plain(each): part.name for part in parts if part.name for each in _nested(part)}
    for name in names:
        if _plain(name) in nested:
            flag = nested[_plain(name)]
            raise _ambiguous(name, f"it is recorded as a value of {shortened(flag)}", f"write {flag} NAME=VALUE")
        for other, has_value in recorded.items():
            if other != name and _may_be_same(name, other, has_value=has_value, is_recorded=name in recorded):
                raise _ambiguous(
                    name,
                    f"{shortened(other)} is recorded, and may be the same parameter",
                    f"write {shortened(other)} as it is recorded; to remove it, use null with --experiment_config",
                )


def _nested(part: Part) -> list[str]:
    """Return the name of an assignment that is the value of a flag: ``--set lr=0.1``."""
    if part.style is not Style.SEPARATE or not any("=" in value for value in part.values[:1]):
        return []
    return [each.name for each in split(part.values[:1]) if each.name]


@lru_cache(maxsize=10_000)
def _may_be_same(name: str, other: str, *, has_value: bool, is_recorded: bool) -> bool:
    plain, plain_other = _plain(name), _plain(other)
    if plain == plain_other:
        return True
    is_assignment = "-" not in (name[0], other[0])
    if not is_assignment and (_negates(plain, plain_other, has_value) or _negates(plain_other, plain, has_value)):
        return True
    if is_recorded:
        return False
    short, long = sorted((name, other), key=len)  # -x1 is -x with the value 1, or another flag
    return len(short) == 2 and short[0] == "-" and long.startswith(short) and not long.startswith("--")


def _negates(one: str, other: str, has_value: bool) -> bool:
    """Return whether a name is that of the switch that turns another one off: ``no_x``, and ``nox`` for a bare flag."""
    return one == f"no_{other}" or (one == f"no{other}" and not has_value)


@lru_cache(maxsize=10_000)
def _plain(name: str) -> str:
    return name.lstrip("-+").replace("-", "_")


def _is_same(recorded: object, value: Setting) -> bool:
    if isinstance(recorded, bool) or isinstance(value, bool):
        return recorded is value
    return str(recorded) == str(value)


def _with_value(flag: str, value: Shown) -> str:
    return flag if value is True else f"{flag} {_value_text(value)}"


def _value_text(value: Shown) -> str:
    if value is None or isinstance(value, bool):
        return "(no value)"
    return shlex.quote(value)


def _number(count: int) -> str:
    return "no value" if count == 0 else "1 value" if count == 1 else f"{count} values"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _ambiguous(name: str, why: str, hint: str) -> CalibanError:
    return CalibanError("ambiguous-parameter", f'cannot change "{shortened(name)}": {why}', hint=hint)
