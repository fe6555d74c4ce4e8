"""No module contains forbidden code, by its syntax tree, so that comments and strings do not count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import caliban

MODULES = sorted(Path(caliban.__file__).parent.rglob("*.py"))
_FORBIDDEN_NAMES = frozenset(
    {
        *("CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "disable_warnings", "check_hostname"),
        *("system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"),
        *("eval", "exec", "pickle", "marshal", "mktemp"),
    }
)
_MUST_STAY_ON = frozenset({"verify", "validate_certificate", "verify_ssl"})


def forbidden_code(source: str) -> Iterator[str]:
    """Yield forbidden code with its line."""
    for node in ast.walk(ast.parse(source)):
        name = _name(node)
        if name in _FORBIDDEN_NAMES:
            yield f"line {getattr(node, 'lineno', 0)}: {name}"
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            is_off = node.arg in _MUST_STAY_ON and not node.value.value
            if is_off or (node.arg == "shell" and node.value.value):
                yield f"line {node.lineno}: {node.arg}={node.value.value!r}"
        is_on = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is True
        if isinstance(node, ast.Assign) and not is_on and any(_name(each) in _MUST_STAY_ON for each in node.targets):
            yield f"line {node.lineno}: assignment to verify"


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.alias):
        return node.name.rpartition(".")[2]
    return node.id if isinstance(node, ast.Name) else None


@pytest.mark.parametrize(
    "source",
    [
        "requests.get(url, verify=False)",
        "session.verify = False",
        "session.verify = is_strict",
        "ssl.CERT_NONE",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "from os import popen",
        "eval('1')",
    ],
)
def test_forbidden_code_is_found(source: str) -> None:
    assert list(forbidden_code(source))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_module_disables_tls_verification_or_uses_a_shell(module: Path) -> None:
    assert list(forbidden_code(module.read_text())) == []
