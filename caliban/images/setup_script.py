"""Which files a setup.py reads, as far as its text shows it without running it.

A setup.py can do anything. What is understood here is what most of them do: they read files whose paths are literals,
or are put together from ``__file__``, ``os.path``, ``pathlib`` and the arguments of their own small functions. Anything
else is a reason to run it with the whole project only.
"""

from __future__ import annotations

import ast
import posixpath
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_Value = str | tuple[str, ...]

_DEPTH = 5
_ALLOWED_IMPORTS = frozenset({"setuptools", "distutils", "pkg_resources", "__future__"})
_FILE_CHECKS = frozenset({"exists", "isfile", "is_file", "is_dir", "isdir"})
_READS = frozenset({"read_text", "read_bytes", "open"})
_UNKNOWN_CALLS = frozenset(
    {
        "exec",
        "eval",
        "compile",
        "__import__",
        "import_module",
        "run_path",
        "run_module",
        "glob",
        "iglob",
        "rglob",
        "listdir",
        "walk",
        "scandir",
        "iterdir",
        "system",
        "popen",
        "check_output",
        "check_call",
        "Popen",
        "run",
        "call",
        "get_requires",
        "find_data_files",
        "parse_requirements",
        "chdir",
        "read_configuration",
        "fileinput",
    }
)
_KEYWORDS_OF_CODE = {
    "ext_modules": "it compiles extensions",
    "cffi_modules": "it compiles extensions",
    "rust_extensions": "it compiles extensions",
    "libraries": "it compiles extensions",
    "cmdclass": "it has commands of its own",
    "distclass": "it has a class of its own",
    "data_files": "it installs data files",
    "setup_requires": "it has requirements of its own",
    "scripts": "it installs scripts",
    "pbr": "it uses pbr",
    "py_modules": "it installs single modules",
}


@dataclass
class SetupScript:
    """What a setup.py needs.

    Attributes:
        files: the files that it reads, relative to the project.
        problem: why it has to be run with the whole project; None where it need not.
    """

    files: list[str] = field(default_factory=list)
    problem: str | None = None


def read_setup_script(source: bytes) -> SetupScript:
    """Analyze the text of a setup.py."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return SetupScript(problem="it cannot be parsed")
    return _Analysis(tree).result


class _Analysis:
    def __init__(self, tree: ast.Module) -> None:
        self.result = SetupScript()
        self._functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._names: dict[str, _Value] = {"__file__": "setup.py"}
        try:
            self._statements(tree.body, self._names, 0)
        except RecursionError:
            self._refuse("it cannot be parsed")

    def _refuse(self, problem: str) -> None:
        self.result.problem = self.result.problem or problem

    def _statements(self, body: Sequence[ast.stmt], names: dict[str, _Value], depth: int) -> None:
        for statement in body:
            if isinstance(statement, ast.FunctionDef):
                continue  # looked at where it is called
            if isinstance(statement, ast.ClassDef):
                self._refuse("it defines classes")
            for node in _parts(statement):
                self._node(node, names, depth)
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                target = statement.targets[0]
                if isinstance(target, ast.Name):
                    self._assign(target.id, statement.value, names)
            for name in ("body", "orelse", "finalbody"):
                self._statements(getattr(statement, name, []), names, depth)
            for handler in getattr(statement, "handlers", []):
                self._statements(handler.body, names, depth)

    def _assign(self, name: str, value: ast.expr, names: dict[str, _Value]) -> None:
        found = _resolve(value, names)
        if found is None:
            names.pop(name, None)
        else:
            names[name] = found

    def _node(self, node: ast.AST, names: dict[str, _Value], depth: int) -> None:
        if isinstance(node, ast.Import):
            self._imports(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            self._imports([node.module or "." if not node.level else "."])
        elif isinstance(node, ast.Call):
            self._call(node, names, depth)

    def _imports(self, modules: Iterator[str] | Sequence[str]) -> None:
        for module in modules:
            top = module.partition(".")[0]
            if top not in _ALLOWED_IMPORTS and top not in sys.stdlib_module_names:
                self._refuse(f"it imports {top or module}")
            if module in (
                "setuptools.command",
                "distutils.command",
                "setuptools.extension",
                "distutils.core.Extension",
            ):
                self._refuse("it has commands of its own")

    def _call(self, call: ast.Call, names: dict[str, _Value], depth: int) -> None:
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if name == "setup":
            self._setup(call)
        elif name in self._functions and isinstance(call.func, ast.Name):
            self._function(self._functions[name], call, names, depth)
        elif name in _UNKNOWN_CALLS:
            self._refuse(f"it calls {name}()")
        elif isinstance(call.func, ast.Name) and name == "open":
            self._reads(call.args[0] if call.args else None, names)
        elif isinstance(call.func, ast.Attribute) and name in _READS | _FILE_CHECKS:
            # io.open(path), codecs.open(path), os.path.exists(path); or path.read_text(), path.open()
            is_function = isinstance(call.func.value, ast.Name | ast.Attribute) and _dotted(call.func.value) in (
                "io",
                "codecs",
                "os.path",
                "path",
                "tokenize",
            )
            self._reads((call.args[0] if call.args else None) if is_function else call.func.value, names)

    def _reads(self, path: ast.expr | None, names: Mapping[str, _Value]) -> None:
        found = None if path is None else _resolve(path, names)
        if not isinstance(found, str):
            self._refuse("it reads files that its text does not name")
        elif (name := posixpath.normpath(found)) not in self.result.files:
            self.result.files.append(name)

    def _setup(self, call: ast.Call) -> None:
        for keyword in call.keywords:
            if keyword.arg is None:
                self._refuse("its settings are not in its text")
            elif keyword.arg in _KEYWORDS_OF_CODE:
                self._refuse(_KEYWORDS_OF_CODE[keyword.arg])
            elif keyword.arg == "package_dir" and ast.unparse(keyword.value) not in ("{'': 'src'}", "{'': '.'}"):
                self._refuse("its packages are in other directories")

    def _function(self, function: ast.FunctionDef, call: ast.Call, names: Mapping[str, _Value], depth: int) -> None:
        if depth >= _DEPTH:
            return self._refuse("it reads files that its text does not name")
        inner = dict(self._names)
        parameters = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        for parameter in [*parameters, *(each.arg for each in function.args.kwonlyargs)]:
            inner.pop(parameter, None)
        values = [_resolve(each, names) for each in call.args]
        defaults = function.args.defaults
        for parameter, default in zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True):
            self._assign(parameter, default, inner)
        for parameter, value in zip(parameters, values, strict=False):
            if value is not None:
                inner[parameter] = value
        for keyword in call.keywords:
            if keyword.arg is not None:
                self._assign_from(keyword.arg, keyword.value, names, inner)
        rest = values[len(parameters) :]
        if function.args.vararg is not None:
            inner.pop(function.args.vararg.arg, None)
            if all(isinstance(each, str) for each in rest):
                inner[function.args.vararg.arg] = tuple(each for each in rest if isinstance(each, str))
        return self._statements(function.body, inner, depth + 1)

    def _assign_from(self, name: str, value: ast.expr, names: Mapping[str, _Value], inner: dict[str, _Value]) -> None:
        found = _resolve(value, names)
        if found is not None:
            inner[name] = found


def _parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement, without the statements in it."""
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        yield node
        children = ast.iter_child_nodes(node)
        inner = [each for each in children if not isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case)]
        pending.extend(reversed(inner))


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _resolve(node: ast.expr, names: Mapping[str, _Value]) -> _Value | None:
    """Return the path or text that an expression comes to, relative to the project; None where that is not known."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
        left, right = _resolve(node.left, names), _resolve(node.right, names)
        if not isinstance(left, str) or not isinstance(right, str):
            return None
        return posixpath.join(left, right) if isinstance(node.op, ast.Div) else left + right
    if isinstance(node, ast.JoinedStr):
        parts = [_resolve(each.value if isinstance(each, ast.FormattedValue) else each, names) for each in node.values]
        return "".join(part for part in parts if isinstance(part, str)) if None not in parts else None
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        whole = _resolve(node.value, names)
        return posixpath.dirname(whole) if isinstance(whole, str) else None
    return _resolve_call(node, names) if isinstance(node, ast.Call) else None


def _resolve_call(node: ast.Call, names: Mapping[str, _Value]) -> _Value | None:
    function = _dotted(node.func)
    name = function.rpartition(".")[2]
    if function in ("os.getcwd", "getcwd", "Path.cwd", "pathlib.Path.cwd"):
        return ""
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("resolve", "absolute") and not node.args:
        return _resolve(node.func.value, names)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "joinpath":
        return _joined([node.func.value, *node.args], names)
    if name in ("abspath", "realpath", "str", "fspath", "normpath", "expanduser") and len(node.args) == 1:
        return _resolve(node.args[0], names)
    if name == "dirname" and len(node.args) == 1:
        whole = _resolve(node.args[0], names)
        return posixpath.dirname(whole) if isinstance(whole, str) else None
    if name in ("Path", "PurePath", "PosixPath") or function in ("os.path.join", "path.join"):
        return _joined(node.args, names)
    return None


def _joined(parts: Sequence[ast.expr], names: Mapping[str, _Value]) -> str | None:
    found: list[str] = []
    for part in parts:
        value = _resolve(part.value if isinstance(part, ast.Starred) else part, names)
        if value is None:
            return None
        found.extend([value] if isinstance(value, str) else value)
    return posixpath.join(*found) if found else ""
