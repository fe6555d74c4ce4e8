from __future__ import annotations

import sys
from pathlib import Path

import pytest

from caliban.cli import command_table
from caliban.errors import CalibanError

from .plugins import HELLO, add_package


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    return directory


def test_a_package_adds_a_command(site: Path) -> None:
    add_package(site, "caliban-hello", {"hello": "hello_plugin_a"}, {"hello_plugin_a": HELLO})
    entry = command_table.plugins()["hello"]
    assert (entry.plugin, entry.help) == ("caliban-hello", "(from the package caliban-hello)")


def test_looking_for_plugins_imports_none(site: Path) -> None:
    add_package(site, "caliban-hello", {"hello": "hello_plugin_b"}, {"hello_plugin_b": HELLO})
    command_table.plugins()
    assert "hello_plugin_b" not in sys.modules


@pytest.mark.parametrize("name", command_table.BUILT_IN)
def test_a_built_in_name_cannot_be_replaced(name: str, site: Path) -> None:
    add_package(site, "caliban-evil", {name: "evil_plugin"}, {"evil_plugin": HELLO})
    assert name not in command_table.plugins()


@pytest.mark.parametrize("name", command_table.BUILT_IN)
def test_every_built_in_entry_is_a_command(name: str) -> None:
    command = command_table.load(command_table.BUILT_IN[name])
    assert command.DESCRIPTION
    assert callable(command.add_arguments)
    assert callable(command.run)


def test_a_command_may_be_an_object_inside_a_module(site: Path) -> None:
    source = """
        class Outer:
            class Command:
                DESCRIPTION = "nested"
                add_arguments = run = staticmethod(lambda *arguments: 0)
    """
    add_package(site, "caliban-nested", {"nested": "nested_plugin:Outer.Command"}, {"nested_plugin": source})
    assert command_table.load(command_table.plugins()["nested"]).DESCRIPTION == "nested"


@pytest.mark.parametrize(
    ("value", "source", "cause"),
    [
        ("broken_a", "import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("broken_b", "def run(:", "SyntaxError"),
        ("broken_c", "1 / 0", "ZeroDivisionError: division by zero"),
        ("broken_d:Missing", "", "AttributeError"),
        ("broken_e", "DESCRIPTION = 'x'", "broken_e has no add_arguments, run"),
        ("broken_f_is_nowhere", None, "ModuleNotFoundError"),
    ],
)
def test_a_broken_plugin_is_reported_with_the_original_error(
    value: str, source: str | None, cause: str, site: Path
) -> None:
    modules = {} if source is None else {value.partition(":")[0]: source}
    add_package(site, "caliban-broken", {"broken": value}, modules)
    with pytest.raises(CalibanError) as caught:
        command_table.load(command_table.plugins()["broken"])
    assert (caught.value.id, cause in str(caught.value.cause)) == ("broken-plugin", True)


def test_a_broken_plugin_is_reported_with_the_name_of_its_package(site: Path) -> None:
    add_package(site, "caliban-broken", {"broken": "broken_g"}, {"broken_g": "1 / 0"})
    with pytest.raises(CalibanError, match="cannot use the command broken of the package caliban-broken") as caught:
        command_table.load(command_table.plugins()["broken"])
    assert caught.value.hint == "update or remove the package caliban-broken; all other commands work"
