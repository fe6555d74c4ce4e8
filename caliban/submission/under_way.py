"""What this process has journaled and not settled, for the report of an error that ends it."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from caliban.attempts import Submission
from caliban.reporter import Reporter
from caliban.store.address import store_url
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal
from caliban.store.owner import this_process

_MAX_SHOWN = 10


def open_lines(environ: Mapping[str, str], home: Path, user: str, reporter: Reporter) -> Sequence[str]:
    """Return a line for each open submission of this process, and how to look them up; nothing where there is none.

    Raises:
        StoreError: the journal cannot be read.
    """
    with open_store(store_url(environ, home), Access.READ, reporter) as store:
        found = [each for each in Journal(store).open_submissions(user=user, group=None) if _is_ours(each)]
    if not found:
        return ()
    sent = [each for each in found if each.batch is None or each.sent is not None]
    lines = [f"submission {each.name} ({each.platform}) may be under way" for each in sent[:_MAX_SHOWN]]
    if len(sent) > _MAX_SHOWN:
        lines.append(f"{len(sent) - _MAX_SHOWN} more may be under way")
    if len(sent) < len(found):
        lines.append(f"{len(found) - len(sent)} of this command were not sent")
    groups = dict.fromkeys(each.group for each in found)
    return (*lines, *(f"look up its job: caliban status --xgroup {shlex.quote(group)}" for group in groups))


def _is_ours(submission: Submission) -> bool:
    if submission.batch is not None:
        return submission.batch.owner == this_process()
    return (submission.pid, submission.host) == (os.getpid(), socket.gethostname())
