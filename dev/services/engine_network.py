"""What a Docker Engine leaves in the host's network when it stops: its bridge, its firewall chains, forwarding.

They are recorded before an engine of ours starts and removed after it has stopped, as far as they are new.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from services.debian import find_program
from services.shell import say

_RECORD = "network.json"
_BRIDGE = Path("/sys/class/net/docker0")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_TOOLS = ("iptables", "ip6tables")
_OURS = re.compile(r"DOCKER|docker0|\bbr-[0-9a-f]{12}\b")
"""In each rule of an engine's: its chains and its bridges have these names."""


def record(directory: Path) -> None:
    """Write down the state before an engine starts, unless what a killed engine left could not be removed."""
    restore(directory)
    state = {
        "bridge": _BRIDGE.exists(),
        "forwarding": _FORWARDING.read_text(),
        "rules": {tool: _save(tool) for tool in _TOOLS},
    }
    (directory / _RECORD).write_text(json.dumps(state))


def restore(directory: Path) -> None:
    """Remove what was added since :func:`record`; nothing where nothing is recorded."""
    path = directory / _RECORD
    if not path.exists():
        return
    before = json.loads(path.read_text())
    for tool, rules in before["rules"].items():
        changes = undoing(rules, _save(tool))
        if changes:
            _apply(tool, changes)
    if not before["bridge"] and _BRIDGE.exists():
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    if not _BRIDGE.exists() and _FORWARDING.read_text() != before["forwarding"]:
        _FORWARDING.write_text(before["forwarding"])
    path.unlink()


def undoing(before: str, after: str) -> str:
    """Return the input of ``iptables-restore --noflush`` that removes an engine's rules and chains.

    Args:
        before: output of ``iptables-save`` before the engine started.
        after: the same, after it has stopped. Rules and chains of others stay.
    """
    known, now = _tables(before), _tables(after)
    text = ""
    for table, lines in now.items():
        old = known.get(table, {})
        added = [line for line in lines if line not in old and _OURS.search(line)]
        rules = [f"-D{line.removeprefix('-A')}" for line in added if line.startswith("-A")]
        chains = [line[1:] for line in added if line.startswith(":")]
        # An engine sets the policy of FORWARD to DROP; a table that was not there yet has ACCEPT.
        policy = old.get(":FORWARD", "ACCEPT")
        policies = [f":FORWARD {policy} [0:0]"] if lines.get(":FORWARD", policy) != policy else []
        changes = [*policies, *rules, *(f"-X {chain}" for chain in chains)]
        if changes:
            text += "\n".join([f"*{table}", *changes, "COMMIT"]) + "\n"
    return text


def _tables(saved: str) -> dict[str, dict[str, str]]:
    """Give for each table its rules and its chains (``:NAME`` -> policy), in their order."""
    tables: dict[str, dict[str, str]] = {}
    table: dict[str, str] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], {})
        elif line.startswith(":"):
            chain, policy, *_ = line.split()
            table[chain] = policy
        elif line.startswith("-A"):
            table[line] = ""
    return tables


def _save(tool: str) -> str:
    program = find_program(f"{tool}-save")
    if program is None:
        return ""
    return subprocess.run([program], capture_output=True, text=True, check=False).stdout


def _apply(tool: str, changes: str) -> None:
    program = find_program(f"{tool}-restore") or f"{tool}-restore"
    done = subprocess.run([program, "--noflush"], input=changes, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        say(f"cannot remove the engine's firewall rules: {done.stderr.strip()}")
