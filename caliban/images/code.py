"""Record what enters an image while it is sent to the Docker Engine, or read the same without a build."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePath

from caliban.code_record import MAX_FILES, MAX_TEXT, MAX_TEXTS, CodeFile, CodeManifest, CodeRecord
from caliban.images.context import collect
from caliban.images.context_stream import ContextFile
from caliban.images.secret_files import GENERIC, SecretFiles
from caliban.images.spec import BuildSpec
from caliban.records import JsonObject
from caliban.redaction import has_credential

MAX_SCANNED = 4 * 1000**3
"""Bytes of a project that are read without a build, at most."""

_ELSEWHERE = frozenset(("build_path", "credentials_path", "adc_path", "no_cache"))
"""What a container spec has that does not enter the image."""


class CodeRecorder:
    """Records the members of a build context as they are sent; see :class:`caliban.images.context_stream.Observer`.

    A context that is sent again is recorded again. Of what enters the image twice, the first counts: files of
    dependencies are copied before the code. A generated file counts only where its original is not sent.
    """

    def __init__(self, spec: BuildSpec) -> None:
        self._settings = image_settings(spec)
        self._included = frozenset(spec.config.include_credentials)
        self._is_complete = False
        self._reset()

    def _reset(self) -> None:
        self._files: dict[str, CodeFile] = {}
        self._generated: dict[str, CodeFile] = {}
        self._texts: dict[str, bytes] = {}
        self._text_bytes = 0

    def start(self) -> None:
        """Forget what was recorded: the context is sent from its beginning."""
        self._is_complete = False
        self._reset()

    def content(self, file: ContextFile, *, is_executable: bool, is_generated: bool = False) -> _Content:
        """Return what takes the content of a regular file, piece by piece."""
        return _Content(self, file, is_executable, is_generated)

    def link(self, file: ContextFile, target: str) -> None:
        """Record a link."""
        data = target.encode("utf-8", "surrogateescape")
        self._add(CodeFile(file.source, hashlib.sha256(data).hexdigest(), len(data), is_link=True), None, False)

    def finish(self) -> None:
        """Note that the whole context was sent."""
        self._is_complete = True

    @property
    def record(self) -> CodeRecord | None:
        """What was recorded; None where not everything was sent, or for a project with too many files."""
        files = {**self._generated, **self._files}
        if not self._is_complete or len(files) > MAX_FILES:
            return None
        manifest = CodeManifest(tuple(files[path] for path in sorted(files)), self._settings)
        known = {each.sha256 for each in manifest.files if not each.is_link}
        return CodeRecord(manifest, {key: text for key, text in self._texts.items() if key in known})

    def _add(self, found: CodeFile, text: bytes | None, is_generated: bool) -> None:
        (self._generated if is_generated else self._files).setdefault(found.path, found)
        if text is None or found.sha256 in self._texts or self._text_bytes + len(text) > MAX_TEXTS:
            return
        if not self._is_included(found.path) and _is_shareable(text):
            self._texts[found.sha256] = text
            self._text_bytes += len(text)

    def _is_included(self, path: str) -> bool:
        """Return whether the user has included a file although it has credentials, which are kept nowhere else."""
        return any(str(each) in self._included for each in (path, *PurePath(path).parents))


class _Content:
    """Takes the content of one file."""

    def __init__(self, recorder: CodeRecorder, file: ContextFile, is_executable: bool, is_generated: bool) -> None:
        self._recorder = recorder
        self._file = file
        self._is_executable = is_executable
        self._is_generated = is_generated
        self._digest = hashlib.sha256()
        self._kept: bytearray | None = bytearray() if file.size <= MAX_TEXT else None

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self._digest.update(piece)
        if self._kept is not None:
            self._kept += piece

    def finish(self) -> None:
        """Record the file."""
        found = CodeFile(
            self._file.source, self._digest.hexdigest(), self._file.size, is_executable=self._is_executable
        )
        text = None if self._kept is None else bytes(self._kept)
        self._recorder._add(found, text, self._is_generated)


def image_settings(spec: BuildSpec) -> JsonObject:
    """Return the settings of a container spec that enter the image."""
    return {key: value for key, value in spec.as_record().items() if key not in _ELSEWHERE}


def scan(
    spec: BuildSpec,
    environ: Mapping[str, str],
    secret_files: SecretFiles = GENERIC,
    on_file: Callable[[], object] = lambda: None,
) -> CodeRecord | None:
    """Return what a build would record now; None for a project that is too large to be read for that.

    Raises:
        ImageError: what :func:`caliban.images.context.collect` raises.
    """
    context = collect(spec, "", environ, secret_files, on_file)
    if context.size > MAX_SCANNED:
        return None
    recorder = CodeRecorder(spec)
    for _ in context.stream(lambda _: None, recorder):
        pass
    return recorder.record


def _is_shareable(content: bytes) -> bool:
    """Return whether a content is a text without a credential."""
    if b"\0" in content:
        return False
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return not has_credential(text)
