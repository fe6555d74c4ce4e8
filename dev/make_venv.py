"""``python3 dev/make_venv.py``: makes ``.venv`` in the clone, with caliban as it is here and its tools."""

from __future__ import annotations

import sys
from pathlib import Path

from services.environments import make_environment
from services.shell import Failure, say


def main() -> int:
    """Make it, or find it made."""
    clone = Path(__file__).resolve().parent.parent
    source = (clone / "pyproject.toml").read_bytes()
    try:
        make_environment(clone / ".venv", ["--editable", f"{clone}[dev]"], source, ["python", "-c", "import caliban"])
    except Failure as failure:
        say(failure.message)
        if failure.hint:
            say(f"hint: {failure.hint}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
