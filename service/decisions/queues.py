"""What operators decide about queues: rules, pause, drain, resume, prune."""

from __future__ import annotations

from events.envelope import Draft
from events.queues import (
    QueueConfigured,
    QueueCreated,
    QueueDrained,
    QueueEvent,
    QueuePaused,
    QueuePruned,
    QueueResumed,
)
from projections.live import LiveQueue, LiveState
from service.commands import ConfigureQueue, CreateQueue, DrainQueue, PauseQueue, PruneQueue, ResumeQueue
from service.refusals import InvalidField, UnknownQueue

MAX_QUEUES = 100


def create_queue(state: LiveState, command: CreateQueue) -> list[Draft]:
    """The queue, unless it exists."""
    if command.queue in state.queues:
        return []
    return [_draft(command.queue, QueueCreated(name=command.queue))]


def configure_queue(state: LiveState, command: ConfigureQueue) -> list[Draft]:
    """The rules, and the queue if there was none; nothing when it is run by them already."""
    name, rules = command.queue, command.rules
    for field, least in (("capacity", 1), ("keep_jobs", 0), ("keep_s", 0)):
        value = getattr(rules, field)
        if value is not None and value < least:
            raise InvalidField(field, f"{value} is not accepted: use {least} or more, or null for no bound")
    known = state.queues.get(name)
    if known is None and len(state.queues) >= MAX_QUEUES:
        raise InvalidField("queue", f"there are {MAX_QUEUES} queues already; use one of them")
    drafts = [_draft(name, QueueCreated(name=name))] if known is None else []
    if known is None or known.rules != rules:
        drafts.append(_draft(name, QueueConfigured(name=name, rules=rules)))
    return drafts


def pause_queue(state: LiveState, command: PauseQueue) -> list[Draft]:
    """The pause; nothing when the queue is paused already."""
    queue = known_queue(state, command.queue)
    return [] if queue.is_paused else [_draft(queue.name, QueuePaused(name=queue.name, reason=command.reason))]


def drain_queue(state: LiveState, command: DrainQueue) -> list[Draft]:
    """The queue closed for new jobs; nothing when it is already."""
    queue = known_queue(state, command.queue)
    return [] if queue.is_drained else [_draft(queue.name, QueueDrained(name=queue.name))]


def resume_queue(state: LiveState, command: ResumeQueue) -> list[Draft]:
    """The end of pause and drain; nothing when there is neither."""
    queue = known_queue(state, command.queue)
    return [_draft(queue.name, QueueResumed(name=queue.name))] if queue.is_paused or queue.is_drained else []


def prune_queue(state: LiveState, command: PruneQueue) -> list[Draft]:
    """The end of old jobs in the views; nothing when those are gone already."""
    queue = known_queue(state, command.queue)
    if command.through > state.position:
        raise InvalidField("through", f"{command.through} is not accepted: the log stands at {state.position}")
    if command.through <= queue.pruned_through:
        return []
    return [_draft(queue.name, QueuePruned(name=queue.name, through=command.through))]


def known_queue(state: LiveState, name: str) -> LiveQueue:
    """The queue. Refuses one that is not known."""
    if name not in state.queues:
        raise UnknownQueue(name, sorted(state.queues))
    return state.queues[name]


def _draft(queue: str, event: QueueEvent) -> Draft:
    return Draft(stream=f"queue/{queue}", event=event)
