"""The registry logins that docker-py sends with a build: those of docker's configuration and of its credential helpers.

docker-py runs every helper of the configuration for each build, and waits for it for ever. So they are run once before,
with a deadline; where they do not work, the build goes on without them, as the base image may need no login.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.clock import Clock
from caliban.redaction import exception_text
from caliban.reporter import Reporter
from caliban.threads import within

if TYPE_CHECKING:
    import docker

HELPER_SECONDS = 60.0
"""How long all credential helpers together have."""


def check_logins(api: docker.APIClient, clock: Clock, reporter: Reporter) -> None:
    """Let builds do without the stored logins if those cannot be read.

    Args:
        api: docker-py's client.
        clock: the time, and waiting.
        reporter: gets a warning.
    """
    import docker.auth

    try:
        config = docker.auth.load_config()
        if not config.creds_store and not config.cred_helpers:
            return
        within(HELPER_SECONDS, config.get_all_credentials, clock)
    except Exception as error:  # noqa: BLE001 - docker-py's errors for helpers have no common class
        reporter.warn(f"cannot read docker's stored logins: {exception_text(error)}; building without them")
        with tempfile.TemporaryDirectory() as directory:
            empty = Path(directory, "config.json")
            empty.write_text("{}")
            api.reload_config(str(empty))
