from __future__ import annotations

import subprocess
import sys


def test_the_platform_is_imported_without_any_library_of_google_or_http() -> None:
    code = "import sys, caliban.platforms.caip.platform; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    heavy = {"google", "googleapiclient", "httplib2", "requests", "docker", "sqlalchemy"}
    program = code.replace("{heavy}", repr(heavy))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert ended.stdout == "[]\n"
