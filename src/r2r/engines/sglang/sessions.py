"""Streaming sessions: a server keeps a text and its KV cache, so that a turn sends what is new."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IDLE_S = 300.0  # a server drops a session that was idle for as long
# Of a server's KV cache, and of its requests, what sessions may hold: what they hold is not
# dropped where other requests need the room.
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Room:
    """What the sessions of one server may hold."""

    tokens: int
    sessions: int


def room(info: Mapping[str, Any]) -> Room | str:
    """From a server's /server_info; in words, where it keeps no sessions that serve us."""
    if not info.get("enable_streaming_session"):
        return "it was started without --enable-streaming-session"
    if not info.get("skip_tokenizer_init"):  # it strips what it takes for a BOS
        return "it was started without --skip-tokenizer-init"
    if info.get("dp_size", 1) > 1:  # any of its schedulers may get a turn
        return "it was started with --dp-size"
    requests = info["internal_states"][0]["effective_max_running_requests_per_dp"]
    return Room(int(SHARE * info["max_total_num_tokens"]), int(SHARE * requests))


@dataclass(slots=True, eq=False)
class Held:
    """A session at server number ``server``, which has room for ``size`` tokens of it.

    ``text`` is what the server holds; None until it is open, while a turn is under way, and
    where one has failed.
    """

    server: int
    size: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    text: list[int] | None = None
    turn: list[int] = field(default_factory=list)

    def asked(self, body: dict[str, Any]) -> dict[str, Any]:
        """A turn begins: the /generate request ``body``, with only what the server lacks."""
        assert self.text is not None
        new, self.turn = body["input_ids"][len(self.text) :], list(body["input_ids"])
        self.text = None
        return body | {"input_ids": new, "session_params": {"id": self.id}}

    def heard(self, message: dict[str, Any], route_id: int | None) -> None:
        """What was written belongs to the text, but for a route id, which the server takes back;
        the server holds it once the turn has ended."""
        self.turn += [token for token in message["output_ids"] if token != route_id]
        if message["meta_info"]["finish_reason"] is not None:
            self.text = self.turn


class Sessions:
    """Which of an engine's sessions a server holds, and how many more there may be."""

    def __init__(self) -> None:
        self.rooms: dict[int, Room] = {}  # by server; those that keep none are not in it
        self.held: dict[int, Held] = {}  # by the engine's session

    def fits(self, server: int, size: int, beside: Held | None = None) -> bool:
        """Whether a server has room for a text of ``size`` tokens, in the place of ``beside``."""
        room = self.rooms.get(server)
        if room is None:
            return False
        others = [held.size for held in self.held.values() if held.server == server]
        count, tokens = len(others), sum(others)
        if beside is not None:
            count, tokens = count - 1, tokens - beside.size
        return count < room.sessions and tokens + size <= room.tokens

    def goes_on(self, held: Held, text: list[int], size: int) -> bool:
        """Whether ``text`` can be sent as a turn of ``held``; then it has room for ``size``."""
        there = held.text
        if there is None or text[: len(there)] != there:
            return False
        if not self.fits(held.server, size, beside=held):
            return False
        held.size = size
        return True

    def idle(self) -> int:
        return sum(held.text is not None for held in self.held.values())
