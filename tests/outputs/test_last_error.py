"""The last error in the output of a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.outputs import last_error as module
from caliban.outputs.last_error import last_error
from caliban.records import OutputError

TRACE = """Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/usr/app/trainer/train.py", line 41, in step
    raise ValueError("loss is nan")
  File "/usr/local/lib/python3.11/site-packages/torch/nn/functional.py", line 9, in relu
    return x
"""
FOUND = OutputError("ValueError", "loss is nan at step 17", "trainer/train.py:41")
PLAIN = TRACE + "ValueError: loss is nan at step 17\n"
OTHER = PLAIN.replace("ValueError", "KeyError")
BAR = " 50%|█████     | 5/10 [00:01<00:01,  3.1it/s]"


def prefixed(prefix: str, text: str = PLAIN) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


def timed(text: str = PLAIN) -> str:
    return "".join(f"2026-11-27T08:00:{n:02}.123Z {line}\n" for n, line in enumerate(text.splitlines()))


def interleaved(one: str, other: str) -> str:
    pairs = zip(one.splitlines(), other.splitlines(), strict=True)
    return "".join(f"{a}\n{b}\n" for a, b in pairs)


CHAINED = OTHER + "\nDuring handling of the above exception, another exception occurred:\n\n" + PLAIN
CAUSED = OTHER + "\nThe above exception was the direct cause of the following exception:\n\n" + PLAIN
SYNTAX = """  File "/usr/app/train.py", line 3
    def f(
         ^
SyntaxError: '(' was never closed
"""
LOGURU = """2026-11-27 08:00:00.000 | ERROR    | __main__:<module>:8 - failed
Traceback (most recent call last):

> File "/usr/app/trainer/train.py", line 41, in step
    x = 1 / y
            └ 0

ValueError: loss is nan at step 17
"""
RICH = """╭───────────────────── Traceback (most recent call last) ─────────────────────╮
│ /usr/app/trainer/train.py:41 in step                                        │
│                                                                             │
│   40                                                                        │
│ ❱ 41     raise ValueError("loss")                                           │
╰─────────────────────────────────────────────────────────────────────────────╯
ValueError: loss is nan at step 17
"""

SAME = {
    "plain": PLAIN,
    "after output": "epoch 1\nepoch 2\n" + PLAIN,
    "before other output": PLAIN + "cleaning up\nbye\n",
    "the last of two": OTHER + "went on\n" + PLAIN,
    "chained": CHAINED,
    "caused": CAUSED,
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "colours": PLAIN.replace("ValueError", "\x1b[1;31mValueError\x1b[0m").replace('"/usr', '\x1b[35m"/usr'),
    "a link": "\x1b]8;;http://x\x07" + PLAIN,
    "after a bar": "\r" + BAR + PLAIN,
    "with bars between": PLAIN.replace('  File "/usr/app', f"{BAR}\r{BAR}\n" + '  File "/usr/app'),
    "with a bar before a frame": PLAIN.replace('  File "/usr/app', "\r" + BAR + '  File "/usr/app'),
    "with a bar before the exception": PLAIN.replace("ValueError:", "\r" + BAR + "ValueError:"),
    "with lines of a log between": PLAIN.replace('  File "/usr/l', 'INFO: saved\nepoch: 3\n  File "/usr/l'),
    "with times": timed(),
    "with the same text before each line": prefixed("[rank0]: "),
    "with a process before each line": prefixed("(worker pid=12) "),
    "with a time in the first line only": "2026-11-27 08:00:00,123 ERROR main: " + PLAIN,
    "of two processes": interleaved(prefixed("[rank1]: ", OTHER), prefixed("[rank0]: ")),
    "without its beginning": PLAIN[60:],
    "not UTF-8": PLAIN,
    "several lines of message": PLAIN + "at x\nTraceback-like text\n",
    "with carets": PLAIN.replace("    return x\n", "    return x\n           ^^^^^^^^\n"),
    "with a note": PLAIN + "try a smaller learning rate\n",
    "with an ignored one after it": PLAIN + "Exception ignored in: <function f at 0x1>\n" + OTHER,
    "with a teardown crash": PLAIN + "terminate called without an active exception\nAborted (core dumped)\n",
    "of the elastic launcher": PLAIN + OTHER.replace("KeyError:", "torch.x.errors.ChildFailedError:"),
    "loguru": LOGURU,
    "rich": RICH,
    "JSON": '{"message": "failed\\n' + PLAIN.replace('"', '\\"').replace("\n", "\\n") + '", "level": "ERROR"}\n',
    "in a worker": "RuntimeError: Caught ValueError in DataLoader worker process 0.\nOriginal " + PLAIN,
}


@pytest.mark.parametrize("name", SAME)
def test_the_last_traceback_is_the_error(name: str) -> None:
    data = SAME[name].encode()
    if name == "not UTF-8":
        data = b"\xff\xfe\x80\n" + data
    assert last_error(data) == FOUND


GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/usr/app/main.py", line 9, in <module>
  |     asyncio.run(main())
  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/usr/app/trainer/train.py", line 41, in step
    |     raise ValueError("loss is nan")
    | ValueError: loss is nan
    +---------------- 2 ----------------
    | TypeError: other
    +------------------------------------
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", None),
        ("epoch 1 error: 0.12\nepoch 2 error 0.1\n", None),
        ("0 errors\n", None),
        (SYNTAX, OutputError("SyntaxError", "'(' was never closed", "train.py:3")),
        (
            TRACE.replace(", in relu", "").replace("/usr/local/lib/python3.11/site-packages/torch/nn/", "/usr/app/")
            + "IndentationError: unexpected indent\n",
            OutputError("IndentationError", "unexpected indent", "functional.py:9"),
        ),
        (GROUP, OutputError("ExceptionGroup", "unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: loss is "
                            "nan", "trainer/train.py:41")),
        (timed(GROUP), OutputError("ExceptionGroup", "unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: "
                            "loss is nan", "trainer/train.py:41")),
        (TRACE + "KeyboardInterrupt\n", OutputError("KeyboardInterrupt", "", "trainer/train.py:41")),
        (TRACE + "AssertionError: \n", OutputError("AssertionError", "", "trainer/train.py:41")),
        (TRACE + "zlib.error: bad\n", OutputError("zlib.error", "bad", "trainer/train.py:41")),
        (TRACE + "Diverged: at 3\n", OutputError("Diverged", "at 3", "trainer/train.py:41")),
        (TRACE + "__main__.f.<locals>.E: x\n", OutputError("__main__.f.<locals>.E", "x", "trainer/train.py:41")),
        (TRACE + "ray.exceptions.RayTaskError(ValueError): x\n",
         OutputError("ray.exceptions.RayTaskError(ValueError)", "x", "trainer/train.py:41")),
        (TRACE.replace("/usr/app/", "/opt/conda/lib/python3.11/") + "OSError: x\n", OutputError("OSError", "x", None)),
        (TRACE.replace("/usr/app/", "/home/mei/digits/") + "OSError: x\n",
         OutputError("OSError", "x", "/home/mei/digits/trainer/train.py:41")),
        (TRACE.replace("/usr/app/", "/usr/app/.venv/lib/python3.9/site-packages/") + "OSError: x\n",
         OutputError("OSError", "x", None)),
        ("usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --lrr 3\n",
         OutputError(None, "train.py: error: unrecognized arguments: --lrr 3")),
        ("FATAL Flags parsing error:\n  Unknown command line flag 'lrr'. Did you mean: lr ?\n",
         OutputError(None, "FATAL Flags parsing error: Unknown command line flag 'lrr'. Did you mean: lr ?")),
        ("run.sh: line 3: foo: command not found\n", OutputError(None, "run.sh: line 3: foo: command not found")),
        ("/bin/sh: 1: foo: not found\n", OutputError(None, "/bin/sh: 1: foo: not found")),
        ("bash: foo: command not found\n", OutputError(None, "bash: foo: command not found")),
        (PLAIN + "run.sh: line 4: foo: command not found\n",
         OutputError(None, "run.sh: line 4: foo: command not found")),
        ("python: can't open file '/usr/app/x.py': [Errno 2] No such file or directory\n",
         OutputError(None, "python: can't open file '/usr/app/x.py': [Errno 2] No such file or directory")),
        ("Error in log(-1) : non-numeric argument\nCalls: f\nExecution halted\n",
         OutputError(None, "Error in log(-1) : non-numeric argument")),
        ("Error in f(x, y) : \n  object 'z' not found\nExecution halted\n",
         OutputError(None, "Error in f(x, y) : object 'z' not found")),
        ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  loss is nan\nAborted\n",
         OutputError(None, "Aborted")),
        ("Segmentation fault (core dumped)\n", OutputError(None, "Segmentation fault (core dumped)")),
        ("run.sh: line 1:    12 Killed                  python x.py\n",
         OutputError(None, "run.sh: line 1: 12 Killed python x.py")),
        ('Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File "/usr/lib/'
         'python3.11/x.py", line 1 in g\n  File "/usr/app/a.py", line 3 in f\n  File "/usr/app/b.py", line 4 in g\n',
         OutputError(None, "Fatal Python error: Segmentation fault", "a.py:3")),
        ("thread 'main' panicked at src/main.rs:3:5:\nloss is nan\n", OutputError("panic", "loss is nan",
                                                                                   "src/main.rs:3:5")),
        ('Exception in thread "main" java.lang.OutOfMemoryError: Java heap space\n',
         OutputError("java.lang.OutOfMemoryError", "Java heap space")),
        ("ValueError: bad\nbye\n", OutputError("ValueError", "bad")),
        ("RuntimeError: DataLoader worker (pid 12) exited\n",
         OutputError("RuntimeError", "DataLoader worker (pid 12) exited")),
        ("2026-11-27 08:00:00,1 ERROR trainer: no data in /data\nbye\n",
         OutputError(None, "2026-11-27 08:00:00,1 ERROR trainer: no data in /data")),
        ("Error: No such option: --x\n", OutputError(None, "Error: No such option: --x")),
    ],
)  # fmt: skip
def test_an_error_in_another_form(output: str, expected: OutputError | None) -> None:
    assert last_error(output.encode()) == expected


def test_the_text_of_an_exit_is_the_error_where_it_ends_standard_error() -> None:
    assert last_error(b"loading\nno data\n") is None
    assert last_error(b"loading\nno data\n", ends_with_stderr=True) == OutputError(None, "no data")


@pytest.mark.parametrize(
    "code",
    ["1 / 0", "import json; json.loads('')", "def f(:", "import no_such", "raise SystemExit('bad')", "exec('1+')"],
)
def test_what_this_python_writes_is_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(code)
    run = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, check=False)
    found = last_error(run.stderr, ends_with_stderr=True)
    assert found is not None
    assert found.type is not None or "bad" in found.message
    assert found.frame is None or found.frame.endswith("train.py:1")


def test_a_secret_in_a_message_is_hidden() -> None:
    found = last_error(b"ValueError: cannot fetch https://mei:hunter22@example.com/x\n")
    assert found == OutputError("ValueError", "cannot fetch https://example.com/x")


def test_control_characters_and_long_messages_are_made_safe() -> None:
    found = last_error(b"ValueError: a\xe2\x80\xaeb" + b"x" * 5000)
    assert found is not None
    assert found.message.isprintable()
    assert len(found.message) == 300


PIECES = st.sampled_from([*TRACE.splitlines(), *GROUP.splitlines(), *RICH.splitlines(), *LOGURU.splitlines(), BAR, "\r",
                          "ValueError: x", "usage: x", "Error in f(x) : ", "[rank0]: ", "\x1b[", "\x1b]"])  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=40))
def test_no_output_raises(pieces: list[str]) -> None:
    for separator in ("\n", "", "\r"):
        last_error(separator.join(pieces).encode("utf-8", "replace"))


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    last_error(data, ends_with_stderr=True)


@pytest.mark.parametrize(
    "piece",
    [b"Traceback (most recent call last):\n", b"[r]: Traceback (most recent call last):\n[r]:   File \n",
     b"  + Exception Group Traceback (most recent call last):\n  | x\n", b'  File "/usr/app/a.py", line 3, in f\n',
     b"a: ", b"\x1b[", b"\x1b]8;;", b"50%|", b"Error in ", b" ", b"a", b"1: ", b"\n", b"\r", b"[ERROR ", b"x.",
     b"10%|a|[",
     "╭─ Traceback (most recent call last) ─╮\n│ a:1 in x\n".encode(), b'Traceback (most recent call last):\\n\\"'],
)  # fmt: skip
def test_the_time_grows_with_the_output_only(piece: bytes) -> None:
    steps: list[int] = []
    for size in (16 << 10, 32 << 10):
        count = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            module.last_error(piece * (size // len(piece)))
        finally:
            sys.settrace(None)
        steps.append(count)
    assert steps[1] <= 2.5 * steps[0] + 2000
