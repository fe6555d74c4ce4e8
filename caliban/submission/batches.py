"""What typing a submitting command again means: it continues a batch that was interrupted, or begins another one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from caliban.attempts import AdditionalAttempt, AttemptKind, FirstAttempt, Submission
from caliban.clock import Clock, local_text
from caliban.errors import StoreError
from caliban.platforms.registry import parse_details, without_names
from caliban.records import Destination, ExperimentRecord, JsonObject, PlatformId
from caliban.store.batches import RecordedBatch, latest_batch, submitted_since, unfinished_targets
from caliban.store.database import Store
from caliban.store.queries import FlagSet, flag_set_key, known_experiments
from caliban.store.views import canonical
from caliban.submission.lease import batch_in_progress
from caliban.submission.submit import Command


@dataclass(frozen=True)
class TypedCommand:
    """A submitting command, as far as it decides whether another one is the same.

    Attributes:
        user: who typed it.
        group: the group that was named; None where it gets a new one.
        container: the container spec.
        flag_sets: the arguments and flags of each experiment.
        platform: where the jobs go.
        destination: where on that platform.
    """

    user: str
    group: str | None
    container: JsonObject
    flag_sets: Sequence[FlagSet]
    platform: PlatformId
    destination: Destination

    @property
    def key(self) -> str:
        """What ``batches.command`` stores: equal for equal commands, whatever the order of their experiments."""
        return self._key(without_names(self.platform, self.destination.to_json()))

    @property
    def earlier_key(self) -> str:
        """What earlier builds stored: with the name of the destination."""
        return self._key(self.destination.to_json())

    def _key(self, destination: JsonObject) -> str:
        experiments = sorted({flag_set_key(args, kwargs) for args, kwargs in self.flag_sets})
        parts = [self.user, self.group, self.container, experiments, self.platform, destination]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Decision:
    """What a command submits.

    Attributes:
        command: for the journal.
        kinds: for each experiment that it submits, by :func:`flag_set_key`, on which condition.
        line: what to tell the user, or None.
        continued: the batch that it continues, or None.
        preview: the line for ``--dry_run``.
    """

    command: Command
    kinds: Mapping[str, AttemptKind]
    line: str | None = None
    continued: RecordedBatch | None = None
    preview: str | None = None

    def kind_of(self, experiment: ExperimentRecord) -> AttemptKind | None:
        """Return on which condition an experiment is submitted; None if it was already."""
        return self.kinds.get(flag_set_key(experiment.args, experiment.kwargs))


def unfinished_batch(store: Store, typed: TypedCommand, clock: Clock) -> RecordedBatch | None:
    """Return the batch that the same command left unfinished the last time, or None."""
    if not store.has_batches:  # no command of this version has used it
        return None
    with store.reading() as session:
        batch = latest_batch(session, clock, typed.key) or latest_batch(session, clock, typed.earlier_key)
    return None if batch is None or batch.is_finished else batch


def continued_by(store: Store, command: Command, clock: Clock) -> Command:
    """Return a command as what continues its own unfinished batch: it submits a further part of its experiments."""
    with store.reading() as session:
        batch = latest_batch(session, clock, command.key)
    return command if batch is None or batch.is_finished else Command(command.key, batch.newest_job)


@dataclass(frozen=True)
class RecordedDestination(Destination):
    """A destination as it is recorded.

    Attributes:
        stored: what :meth:`~caliban.records.Destination.to_json` returned.
    """

    stored: JsonObject = field(hash=False)

    def to_json(self) -> JsonObject:
        """See :meth:`caliban.records.Destination.to_json`."""
        return self.stored


def probable(store: Store, typed: TypedCommand, clock: Clock) -> TypedCommand:
    """Return a command with the destination to which it would continue an unfinished batch.

    For a preview, which connects to nothing: the destination of ``typed`` has what is known of it without a connection.
    """
    if not store.has_batches:
        return typed
    known = typed.destination.to_json()
    with store.reading() as session:
        targets = unfinished_targets(session, typed.user, typed.platform)
    for target in targets:
        there = replace(typed, destination=RecordedDestination(target))
        if known.items() <= target.items() and unfinished_batch(store, there, clock) is not None:
            return there
    return typed


def all_again(typed: TypedCommand) -> Decision:
    """Return the decision to submit every experiment, whatever was submitted before (``--new_attempts``)."""
    return Decision(
        Command(typed.key), {flag_set_key(args, kwargs): AdditionalAttempt() for args, kwargs in typed.flag_sets}
    )


def decide(store: Store, typed: TypedCommand, group: str, clock: Clock, still_open: Sequence[Submission]) -> Decision:
    """Return what the command submits.

    An experiment that gets a job from now on is not submitted: the same command may have been typed in two terminals.

    Args:
        store: with the journal, whose interrupted submissions were settled.
        typed: the command.
        group: the group that its experiments belong to.
        clock: the time.
        still_open: the submissions of the group that are still open.

    Raises:
        StoreError: ``already-being-submitted``: the same command is running.
    """
    unfinished = unfinished_batch(store, typed, clock)
    if unfinished is not None and _is_running(unfinished, still_open):
        raise _already_running(unfinished)
    with store.reading() as session:
        known = known_experiments(
            session,
            parse_details,
            user=typed.user,
            group=group,
            container_spec=typed.container,
            flag_sets=typed.flag_sets,
        )
        ids = [experiment.id for experiment in known.values()]
        submitted = submitted_since(session, ids, unfinished.newest_job) if unfinished else set()
    wanted = {flag_set_key(args, kwargs): known.get(flag_set_key(args, kwargs)) for args, kwargs in typed.flag_sets}
    kinds = {key: _kind(each) for key, each in wanted.items() if each is None or each.id not in submitted}
    if unfinished is not None:
        what = continued_text(unfinished, len(submitted), len(wanted), clock)
        command = Command(typed.key, unfinished.newest_job)
        return Decision(command, kinds, f"continuing {what}", unfinished, f"this command would continue {what}")
    line = _again_line(sum(1 for each in known.values() if each.latest))
    return Decision(Command(typed.key), kinds, line, preview=line)


def _kind(experiment: ExperimentRecord | None) -> AttemptKind:
    if experiment is None or experiment.latest is None:
        return FirstAttempt()
    return AdditionalAttempt(after=experiment.latest.id)


def _is_running(batch: RecordedBatch, still_open: Sequence[Submission]) -> bool:
    """Return whether the command of a batch runs; where that is out of sight, its open submissions were watched."""
    seen = batch_in_progress(batch.batch)
    if seen is not None:
        return seen
    return any(each.batch is not None and each.batch.id == batch.batch.id for each in still_open)


def _already_running(batch: RecordedBatch) -> StoreError:
    return StoreError(
        "already-being-submitted",
        f"these experiments are already being submitted by {batch.user} on {batch.host} (process {batch.pid}) "
        f"since {local_text(batch.opened)}",
        hint="wait for that command to end; to submit all of them once more, add --new_attempts",
    )


def continued_text(batch: RecordedBatch, submitted: int, total: int, clock: Clock) -> str:
    """Return which submission is continued, and how much of it was submitted."""
    interrupted, now = batch.renewed.astimezone(), clock.utc_now().astimezone()
    at = f"{interrupted:%H:%M}" if interrupted.date() == now.date() else f"{interrupted:%Y-%m-%d %H:%M}"
    jobs = "job was" if total == 1 else "jobs were"
    return f"the submission interrupted at {at}: {submitted} of {total} {jobs} already submitted"


def _again_line(count: int) -> str | None:
    if count == 0:
        return None
    if count == 1:
        return "1 experiment already has a job; this adds an attempt to it"
    return f"{count} experiments already have jobs; this adds an attempt to each"
