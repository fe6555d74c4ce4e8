"""What changed in what an image is built from: values, and their words for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from caliban.code_record import CodeFile, CodeManifest
from caliban.config import KEYS_OF_PLACES
from caliban.records import JsonObject
from caliban.resubmit.text_diff import count_changes, lines_of

_SHOWN = 3
_SHOWN_COMMIT = 12


@dataclass(frozen=True)
class FileChange:
    """A file that changed.

    Attributes:
        path: relative to the project.
        before, after: as it was, and is; None where there is none.
        added, removed: how many lines; None where a text is not known.
    """

    path: str
    before: CodeFile | None
    after: CodeFile | None
    added: int | None = None
    removed: int | None = None

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def text(self) -> str:
        """For people: ``train.py +3 -1``, ``old.py removed``."""
        if self.kind == "removed":
            return f"{self.path} removed"
        counts = [f"+{self.added}" if self.added else "", f"-{self.removed}" if self.removed else ""]
        words = " ".join(filter(None, counts))
        if self.kind == "added":
            return f"{self.path} added"
        if self.before and self.after and self.before.sha256 == self.after.sha256:
            return f"{self.path} mode changed"
        return f"{self.path} {words or 'changed'}"


@dataclass(frozen=True)
class CodeChange:
    """What changed since a job.

    Attributes:
        since: ``jobs.id`` of the job whose settings are taken: usually the one that is run again.
        files: in the order of their paths.
        settings: the names of the settings that changed, such as ``base_image``.
        keeps_image: whether the image of that job is used again: nothing is built.
    """

    since: int
    files: tuple[FileChange, ...] = ()
    settings: tuple[str, ...] = ()
    keeps_image: bool = False

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing that enters the image changed."""
        return not self.files and not self.settings

    @property
    def text(self) -> str:
        """For people: ``train.py +3 -1, base_image changed``."""
        if self.is_unchanged:
            return "unchanged"
        shown = [each.text for each in self.files[:_SHOWN]]
        left = len(self.files) - len(shown)
        if self.settings:
            shown.append(f"{' and '.join(self.settings)} changed")
        return ", ".join(shown) + (f" and {left} more file{'s' if left > 1 else ''}" if left else "")


def changed_files(before: CodeManifest, after: CodeManifest) -> list[FileChange]:
    """Return the files that differ, without counts of their lines."""
    found = []
    for path in sorted({*before.by_path, *after.by_path}):
        old, new = before.by_path.get(path), after.by_path.get(path)
        if old != new:
            found.append(FileChange(path, old, new))
    return found


def with_counts(change: FileChange, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> FileChange:
    """Return the change with how many lines it has, where both texts are known.

    Args:
        change: of a file.
        before: contents by SHA-256, those that were.
        after: the present ones.
    """
    texts = (text_of(change.before, before), text_of(change.after, after))
    if texts[0] is None or texts[1] is None:
        return change
    added, removed = count_changes(lines_of(texts[0]), lines_of(texts[1]))
    return FileChange(change.path, change.before, change.after, added, removed)


def text_of(file: CodeFile | None, texts: Mapping[str, bytes]) -> bytes | None:
    """Return the text of a file: nothing of one that does not exist, None where it is not known."""
    if file is None:
        return b""
    return None if file.is_link else texts.get(file.sha256)


def changed_settings(before: CodeManifest, after: CodeManifest) -> tuple[str, ...]:
    """Return the names of the settings that differ."""
    old, new = dict(_flat(before.settings)), dict(_flat(after.settings))
    return tuple(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))


def _flat(settings: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield the settings of an image by their names; those of the project's configuration have names of their own."""
    for name, value in settings.items():
        if name == "caliban_config" and isinstance(value, Mapping):
            yield from ((key, each) for key, each in value.items() if key not in KEYS_OF_PLACES)
        else:
            yield name, value
