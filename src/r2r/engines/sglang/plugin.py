"""What runs inside an SGLang server (entry point ``sglang.srt.plugins``): routing and reading.

A server is one of ours where its model config carries ``r2r`` (``--json-model-override-args``, made
by ``server.command``). A request is one of ours where its ``custom_params`` do: SGLang is asked to
be greedy, and the draw, the router's score and the decision are made here, after the forward and
outside of any CUDA graph. Where the other model is to write, for the router's score or the model's
own entropy, the sampled token is replaced by the route id, which is a stop token of the request.
Scores, drafts, and what is thought of given tokens go back in its ``meta_info``.
"""

# pyright: reportMissingImports=false
# SGLang is installed where it serves, not where this is checked.

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from sglang.srt.layers.logits_processor import LogitsMetadata
from sglang.srt.layers.vocab_parallel_embedding import VocabParallelEmbedding
from sglang.srt.managers.auxiliary_output import append_auxiliary_output
from sglang.srt.plugins.hook_registry import HookRegistry, HookType
from sglang.srt.runtime_context import get_parallel

from r2r.engines.base import Sampling
from r2r.engines.judged import Judged, judge
from r2r.engines.sampling import choose, entropies
from r2r.engines.slices import slices
from r2r.errors import must_be
from r2r.routers.base import Router, routed
from r2r.routers.checkpoint import load_saved
from r2r.routers.published import load_published
from r2r.trace import TOP_K, TokenSignals

KEY = "r2r"
Found = tuple[torch.Tensor, torch.Tensor]  # scores [rows], and whether those are the other model's


def register() -> None:
    """Called by SGLang in each of its processes."""
    runner = "sglang.srt.model_executor.model_runner.ModelRunner"
    batch = "sglang.srt.model_executor.forward_batch_info.ForwardBatch"
    HookRegistry.register(f"{runner}.load_model", _prepare, HookType.AFTER)
    HookRegistry.register(f"{batch}.init_new", _note_wishes, HookType.AFTER)
    HookRegistry.register(f"{runner}.sample", _sample, HookType.AROUND)
    session = "sglang.srt.session.streaming_session.StreamingSession"
    HookRegistry.register(f"{session}.try_cache_finished_req", _take_back, HookType.AFTER)


def _prepare(_result: None, runner: Any) -> None:
    """Behind ``load_model``: the router takes its memory before the KV cache is sized."""
    given = getattr(runner.model_config.hf_config, KEY, None)
    if given is not None and not runner.is_draft_worker:
        runner.r2r = Routing(runner, given)


def _note_wishes(forward: Any, _kind: type, batch: Any, *_args: Any, **_options: Any) -> None:
    """Behind ``ForwardBatch.init_new``: remember the batch's requests and what each asks of us."""
    wishes = [(req.sampling_params.custom_params or {}).get(KEY) for req in batch.reqs]
    if any(wishes):
        forward.r2r = (list(batch.reqs), wishes)


def _sample(original: Callable[..., Any], runner: Any, output: Any, forward: Any) -> torch.Tensor:
    """Around ``ModelRunner.sample``."""
    routing = getattr(runner, KEY, None)
    if routing is None:
        return original(runner, output, forward)
    return routing.sample(lambda: original(runner, output, forward), output, forward)


class Routing:
    """One server's router and route id. Every rank of a tensor-parallel server has one."""

    def __init__(self, runner: Any, given: dict[str, Any]):
        self.model, self.device = runner.model, runner.device
        self.route_id: Any = given["route_id"]
        self.tokens: int = given["tokens"]
        self.vocabulary: int = runner.model_config.vocab_size
        vocabulary = self.vocabulary
        safe = range(vocabulary)
        if self.route_id is not None and (
            self.route_id not in safe or self.route_id in given["eos_ids"]
        ):
            wanted = f"a reserved token below {vocabulary} that ends no answer"
            raise must_be("pair.route_token", wanted, self.route_id)
        self.router: Router | None = None
        self.digest = ""
        if given["router"] is not None:
            path, table = Path(given["router"]), _embeddings(self.model, vocabulary, self.device)
            saved = (
                load_saved(
                    path, token_embeddings=table, pair=given["pair"], identity=given["identity"]
                )
                if path.is_dir()
                else load_published(path, table)
            )
            self.router, self.digest = saved.router.to(self.device).eval(), saved.digest

    @torch.inference_mode()
    def sample(self, original: Callable[[], torch.Tensor], output: Any, forward: Any):
        """The next tokens [rows], route ids where the other model is to write."""
        logits = output.next_token_logits
        reqs, wishes = getattr(forward, KEY, ([], []))
        routing = any(wish and "threshold" in wish for wish in wishes)
        top = _top(logits).values.float() if routing else None
        self._ban(logits)
        if not wishes:
            return original()
        self._read(reqs, wishes, output, forward)
        unsure = self._unsure(wishes, logits)
        drawn = self._draw(wishes, logits, forward)
        tokens = original()
        if drawn is not None:
            tokens = torch.where(drawn < 0, tokens, drawn.to(tokens.dtype))
        scores, away = unsure or (None, None)
        if self.router is not None and top is not None:
            positions = self._positions(wishes, forward)
            hidden = _last_rows(output.hidden_states, forward).float()
            signals = TokenSignals(tokens.long(), top, hidden, positions)
            scores, away = self._divergent(wishes, signals, unsure)
        written = tokens if away is None else tokens.masked_fill(away, self.route_id)
        if get_parallel().tp_size > 1:  # last bits differ from rank to rank, decisions must not
            written = get_parallel().tp_group.broadcast(written.contiguous())
        told = Told(wishes, (self.digest, self.route_id), tokens, scores)
        output.auxiliary_device_output = append_auxiliary_output(
            output.auxiliary_device_output, told
        )
        return written

    def _positions(self, wishes: Sequence[Any], forward: Any) -> torch.Tensor:
        """Tokens of each answer [rows] before the one that is written."""
        starts = torch.tensor([wish["prompt"] if wish else 0 for wish in wishes])
        return forward.seq_lens[: len(wishes)].long() - starts.to(self.device)

    def _divergent(
        self, wishes: Sequence[Any], signals: TokenSignals, unsure: Found | None
    ) -> Found:
        """The router's, where it is asked; in the other rows what is ``unsure``."""
        assert self.router is not None
        scores = self.router.score(signals)
        limits = [wish["threshold"] if wish and "threshold" in wish else None for wish in wishes]
        asked = torch.tensor([limit is not None for limit in limits], device=self.device)
        bounds = torch.tensor([limit or 0.0 for limit in limits], device=self.device)
        away = routed(scores, bounds) & asked
        if unsure is None:
            return scores, away
        entropy, uncertain = unsure
        return torch.where(asked, scores, entropy.to(scores.dtype)), away | uncertain

    def _unsure(self, wishes: Sequence[Any], logits: torch.Tensor) -> Found | None:
        """The entropies of the rows that ask for them, and whether they are too high."""
        rows = [row for row, wish in enumerate(wishes) if wish and "above" in wish]
        if not rows:
            return None
        found = entropies(logits[rows].float())
        limits = [wishes[row]["above"] for row in rows]
        bounds = found.new_tensor([math.inf if limit is None else limit for limit in limits])
        scores = found.new_zeros(len(wishes))
        away = torch.zeros(len(wishes), dtype=torch.bool, device=logits.device)
        scores[rows], away[rows] = found, found > bounds
        return scores, away

    def _ban(self, logits: torch.Tensor) -> None:
        logits[:, self.tokens :] = -torch.inf
        if self.route_id is not None:
            logits[:, self.route_id] = -torch.inf

    def _draw(self, wishes: Sequence[Any], logits: torch.Tensor, forward: Any):
        """Tokens [rows] of the requests with a temperature, -1 for the others; None: all greedy."""
        rows = [row for row, wish in enumerate(wishes) if wish and wish["temperature"] > 0]
        if not rows:
            return None
        lengths = forward.seq_lens.tolist()
        samplings = [_sampling(wishes[row]) for row in rows]
        positions = [lengths[row] - wishes[row]["prompt"] for row in rows]
        drawn = torch.full((len(wishes),), -1, dtype=torch.long, device=logits.device)
        drawn[rows] = choose(logits[rows].float(), samplings, positions)
        return drawn

    def _read(self, reqs: Sequence[Any], wishes: Sequence[Any], output: Any, forward: Any) -> None:
        """Keep with their request the signals of positions from ``read_from`` on, or what is
        thought of the tokens behind those from ``judge_from`` on."""
        if not forward.forward_mode.is_extend():
            return
        judging: list[tuple[Judged, range, int]] = []
        first = 0
        lengths, prefixes = forward.extend_seq_lens_cpu, forward.extend_prefix_lens_cpu
        for req, wish, length, prefix in zip(reqs, wishes, lengths, prefixes, strict=True):
            if wish and "read_from" in wish:
                skipped = min(length, max(0, wish["read_from"] - prefix))
                hidden = output.hidden_states[first + skipped : first + length]
                req.r2r_read = getattr(req, "r2r_read", [])
                req.r2r_read += [
                    self._signals(hidden[rows], forward)
                    for rows in slices(len(hidden), self.vocabulary)
                ]
            if wish and "judge_from" in wish:
                skipped = min(length, max(0, wish["judge_from"] - prefix))
                req.r2r_judged = getattr(req, "r2r_judged", None) or Judged(
                    req.origin_input_ids, wish["prompt"], wish["judge_from"], _sampling(wish)
                )
                rows = range(first + skipped, first + length)
                judging.append((req.r2r_judged, rows, prefix + skipped))
            first += length

        def logits_of(hidden: torch.Tensor) -> torch.Tensor:
            logits = self._logits(hidden, forward)
            self._ban(logits)
            return logits

        if judging:
            judge(judging, output.hidden_states, logits_of)

    def _logits(self, hidden: torch.Tensor, forward: Any) -> torch.Tensor:
        """Raw logits [n, vocab] of hidden states [n, hidden]."""
        metadata = LogitsMetadata.from_forward_batch(forward)
        return self.model.logits_processor._get_logits(
            hidden, self.model.lm_head, metadata, use_logits_buffer=False
        ).float()

    def _signals(self, hidden: torch.Tensor, forward: Any) -> tuple[torch.Tensor, ...]:
        """Of hidden states [n, hidden]: argmax [n], raw top-k values and ids [n, k], hidden."""
        logits = self._logits(hidden, forward)
        top = _top(logits)
        self._ban(logits)
        parts = (logits.argmax(-1), top.values, top.indices, hidden.float())
        return tuple(part.cpu() for part in parts)


@dataclass(frozen=True)
class Told:
    """What a forward tells its requests; tensors [rows], copied to the host behind it."""

    wishes: list[dict[str, Any] | None]
    about: tuple[str, int | None]  # the router's digest, the route id
    drafts: torch.Tensor
    scores: torch.Tensor | None

    def copy_to_host(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> Told:
        scores = None if self.scores is None else copy(self.scores)
        return Told(self.wishes, self.about, copy(self.drafts), scores)

    def consume(self, batch: Any, commits: Sequence[Any]) -> None:
        """Once the tokens are the requests' own: into what is sent with them, one value a token."""
        drafts = self.drafts.tolist()
        scores = [None] * len(drafts) if self.scores is None else self.scores.tolist()
        rows = zip(batch.reqs, self.wishes, commits, drafts, scores, strict=True)
        for req, wish, commit, draft, score in rows:
            if not wish or commit is None:
                continue
            told: dict[str, Any] = {}
            if "threshold" in wish or "above" in wish:
                told |= {"r2r_score": score, "r2r_draft": draft}
            if "probe" in wish:
                told["r2r_router"], told["r2r_route"] = self.about
            if "read_from" in wish:
                told["r2r_read"] = _packed(req.r2r_read)
            if "judge_from" in wish:
                told["r2r_judged"] = asdict(req.r2r_judged.found)
            req.customized_info = req.customized_info or {}
            for key, value in told.items():
                req.customized_info.setdefault(key, []).append(value)


def _take_back(stays: bool, held: Any, req: Any) -> None:
    """Behind ``StreamingSession.try_cache_finished_req``, by which a session keeps what a turn has
    read and written (``stays``): all but a route id, since the next turn begins with another token
    in its place."""
    wish = (req.sampling_params.custom_params or {}).get(KEY) or {}
    if not stays or not req.output_ids or req.output_ids[-1] != wish.get("takes_back"):
        return
    slot, kept = held.slots[req.session.session_id], len(req.output_ids) - 1
    req.sampling_params.max_new_tokens = kept  # the next turn takes so many into its text
    if slot.kv.holds_mamba:  # the state of a recurrent layer does not go back: read all again
        held.release_session(req.session.session_id)
    else:
        slot.kv.kv_committed_len = min(slot.kv.kv_committed_len, len(req.origin_input_ids) + kept)


def _sampling(wish: dict[str, Any]) -> Sampling:
    return Sampling(temperature=wish["temperature"], top_p=wish["top_p"], seed=wish["seed"])


def _packed(parts: Sequence[tuple[torch.Tensor, ...]]) -> dict[str, Any]:
    """Argmax and ids as int32, logits and hidden states as float32, column after column, as
    base64; ``engine`` unpacks it."""
    argmax, logits, indices, hidden = map(torch.cat, zip(*parts, strict=True))
    columns = (argmax.int(), indices.int(), logits, hidden)
    raw = b"".join(column.contiguous().numpy().tobytes() for column in columns)
    shape = [len(argmax), logits.shape[1], hidden.shape[1]]
    return {"shape": shape, "data": base64.b64encode(raw).decode()}


def _top(logits: torch.Tensor) -> Any:
    """Values and ids [n, k] of the highest logits."""
    return logits.topk(min(TOP_K, logits.shape[-1]), dim=-1)


def _last_rows(hidden: torch.Tensor, forward: Any) -> torch.Tensor:
    """The hidden state behind each next token [rows, hidden]; an extend gives all its tokens'."""
    if not forward.forward_mode.is_extend():
        return hidden
    return hidden[forward.extend_seq_lens.cumsum(0) - 1]


def _embeddings(model: torch.nn.Module, vocabulary: int, device: Any) -> torch.Tensor:
    """The model's input embeddings [vocab, hidden], whole on every rank.

    Found by their type: most of SGLang's models have no ``get_input_embeddings``.
    """
    kinds = (VocabParallelEmbedding, torch.nn.Embedding)
    found: list[Any] = [module for module in model.modules() if type(module) in kinds]
    if not found:
        raise must_be("pair.slm", "a model with a table of input embeddings", type(model).__name__)
    if get_parallel().tp_size == 1:
        return found[0].weight[:vocabulary]
    ids = torch.arange(vocabulary, device=device)
    with torch.inference_mode():  # a forward joins what the ranks hold
        return torch.cat([found[0](part) for part in ids.split(8192)])
