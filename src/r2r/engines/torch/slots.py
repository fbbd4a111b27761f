"""Who holds which slot of the KV cache, and who has to give one up."""

from __future__ import annotations

from dataclasses import dataclass, field

from r2r.engines.base import Request
from r2r.engines.torch.cache import SlotCache


@dataclass(slots=True)
class Slot:
    """One slot of the KV cache: whose it is and which tokens it holds."""

    index: int
    session: int | None = None
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    used: int = 0  # when it was last in use, for eviction


class Slots:
    """The slots of a KV cache, and the sessions that hold some of them."""

    def __init__(self, cache: SlotCache):
        self.cache = cache
        self.all = [Slot(index) for index in range(cache.slots)]
        self.sessions: dict[int, Slot] = {}

    def idle_sessions(self) -> int:
        return sum(not slot.busy for slot in self.sessions.values())

    def parent(self, request: Request) -> Slot | None:
        """The slot that holds the text a request continues, if it is still there."""
        return None if request.parent is None else self.sessions.get(request.parent)

    def take(self, request: Request) -> Slot | None:
        """The session's own slot, else a free one, else the one idle for longest: but while half of
        them are busy, a text that is continued is not evicted for one more continuation, which
        gets a slot soon. It is busy from here on; None where the request has to wait."""
        slot = self.sessions.get(request.session)
        if slot is None:
            slot = self._other(request)
        elif slot.busy:
            return None
        if slot is not None:
            slot.busy = True
        return slot

    def _other(self, request: Request) -> Slot | None:
        idle = [slot for slot in self.all if not slot.busy]
        if not idle:
            return None

        def worth(slot: Slot) -> tuple[int, int, int]:
            kept = 0 if slot.session is None else 2 if slot.session == request.parent else 1
            return kept, slot.used, slot.index

        slot = min(idle, key=worth)
        if slot.session is not None:
            if request.parent is not None and 2 * len(idle) <= len(self.all):
                return None
            self.evict(slot.session)
        if request.session >= 0:
            slot.session = request.session
            self.sessions[request.session] = slot
        return slot

    def leave(self, slot: Slot, now: int) -> None:
        """Its request has ended; a session's tokens stay."""
        slot.busy, slot.used = False, now
        if slot.session is None:
            self._empty(slot)

    def evict(self, session: int) -> None:
        slot = self.sessions.pop(session, None)
        if slot:
            slot.session = None
            self._empty(slot)

    def _empty(self, slot: Slot) -> None:
        slot.tokens = []
        self.cache.free(slot.index)
