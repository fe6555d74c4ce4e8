from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban.cli.flag_files import expand
from caliban.errors import UsageError
from tests.calls import call
from tests.conftest import ScreenContext


def failure(*arguments: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        expand(arguments)
    assert (caught.value.id, bool(caught.value.hint)) == ("invalid-value", True)
    return caught.value


def test_the_flags_of_a_file_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("--c=2\r\n")
    (tmp_path / "flags").write_text(f"\ufeff# why\n\n// why\n  --b 1 \n--flagfile={tmp_path / 'more'}\n")
    flags = tmp_path / "flags"
    for arguments in ([f"--flagfile={flags}"], ["--flagfile", str(flags)], [f"-flagfile={flags}"]):
        assert expand(["--a", *arguments, "d"]) == ["--a", "--b 1", "--c=2", "d"]


def test_an_empty_name_is_ignored() -> None:
    assert expand(["--flagfile=", "a"]) == ["a"]


@pytest.mark.parametrize("name", ["/dev/zero", "missing", "pipe", "loop", ".", "latin", "x" * 300, "large", "a\0b"])
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("latin").write_bytes(b"--a=\xe9\n")
    Path("large").write_text("\n" * 2_000_000)
    cause = failure(f"--flagfile={name}").cause or ""
    assert cause.startswith(f"--flagfile={name[:100]}")
    assert len(cause) < 300


def test_a_flag_without_a_file_is_an_error() -> None:
    assert failure("--flagfile").cause == "--flagfile=: a file is expected"


def test_files_that_name_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"--flagfile={tmp_path / 'b'}\n")
    (tmp_path / "b").write_text(f"--flagfile={tmp_path / 'a'}\n")
    assert failure(f"--flagfile={tmp_path / 'a'}").cause == f"--flagfile={tmp_path / 'a'}: it names itself"


def test_the_number_of_files_is_limited(tmp_path: Path) -> None:
    """Otherwise 40 files that each name the next one twice would be a million million."""
    for number in range(40):
        (tmp_path / f"{number}").write_text(f"--flagfile={tmp_path / str(number + 1)}\n" * 2)
    (tmp_path / "40").write_text("")
    assert "more than 100 files" in (failure(f"--flagfile={tmp_path / '0'}").cause or "")


def test_every_command_takes_flags_from_a_file(context: ScreenContext, tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("--max_jobs=x\n")
    with pytest.raises(UsageError, match="--max_jobs"):
        call(context, "status", f"--flagfile={tmp_path / 'flags'}")


def test_a_device_for_flags_does_not_hang_a_command(context: ScreenContext) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, "status", "--flagfile=/dev/zero")
    assert caught.value.cause == "--flagfile=/dev/zero: it is a character device"
