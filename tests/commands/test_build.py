from __future__ import annotations

from pathlib import Path

import pytest

from caliban.errors import ImageError, UsageError
from tests.builders import IMAGE
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fakes import FakeEngine


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "data").mkdir()
    return cwd


def test_the_image_is_printed_for_scripts(fake_engine: FakeEngine, context: ScreenContext) -> None:
    fake_engine.expect(IMAGE)
    assert (call(context, "build", "--nogpu", "cpu.py"), context.out, context.err) == (0, f"{IMAGE}\n", "")


def test_flags_determine_the_content_of_the_image(fake_engine: FakeEngine, context: ScreenContext) -> None:
    fake_engine.expect(IMAGE)
    call(context, "build", "-d", "data", "--no_cache", "cpu.py")
    [spec] = fake_engine.built
    assert (spec.extra_dirs, spec.job_mode.value, spec.package.script, fake_engine.no_cache) == (
        ("data",),
        "GPU",
        "cpu.py",
        [True],
    )


def test_building_records_nothing(fake_engine: FakeEngine, context: ScreenContext, home: Path) -> None:
    fake_engine.expect(IMAGE)
    call(context, "build", "--nogpu", "cpu.py")
    assert list(home.iterdir()) == []


def test_a_failed_build_prints_no_image(fake_engine: FakeEngine, context: ScreenContext) -> None:
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed"))
    with pytest.raises(ImageError):
        call(context, "build", "--nogpu", "cpu.py")
    assert context.out == ""


def test_a_misspelt_script_is_reported_with_a_suggestion(context: ScreenContext) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, "build", "--nogpu", "cpp.py")
    assert caught.value.hint == "did you mean cpu.py?"
