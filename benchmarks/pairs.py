"""The pairs that are timed: nano, a made one of medium size, or any two models by path.

The medium pair is random but for its embeddings and its head, which make each model count: token
2n is followed by 2n + 2. On a set share of the numbers the SLM writes 2n + 3 instead, and the
router finds just these divergent. So assisted generation accepts exactly the tokens that routing
leaves to the SLM, and both write what the LLM writes.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import r2r
from r2r.chat import encode_question
from r2r.engines.base import Sampling
from r2r.engines.torch.attention import NAME
from r2r.engines.torch.engine import TorchEngine
from r2r.engines.torch.packed import Packed
from r2r.policies.base import Prompt
from r2r.policies.r2r import R2R
from r2r.policies.routed import Policy, Routed
from r2r.policies.single import Single
from r2r.routers.base import Router
from r2r.routers.mlp import MLPRouter
from r2r.trace import TokenSignals

GOLDEN = 0.6180339887
PROMPT = 64  # tokens
NANO = Path(r2r.__path__[0]) / "assets" / "nano"
VOCAB = 16384
SHAPES = {  # hidden, layers, intermediate, heads, KV heads, head size: 33 M and 474 M with VOCAB
    "slm": (384, 12, 1152, 6, 2, 64),
    "llm": (1024, 28, 3072, 16, 8, 128),
}
SENTENCE, ANSWER = 24, 192  # numbers: of a sentence of the medium pair, of its answers at most
ROUTER = {"nano": ([32, 32], 2), "medium": ([256, 256, 256], 4)}  # widths, expansion


class Pattern(Router):
    """Does a router's work, then says what a fixed pattern says: ``share`` of scores are 1.

    ``position``: how much of the pattern is of the token's place rather than of the token.
    """

    def __init__(self, inner: MLPRouter, position: int):
        super().__init__()
        self.inner, self.position, self.share = inner, position, 0.0

    def score(self, signals: TokenSignals) -> torch.Tensor:
        self.inner.score(signals)
        return divergent(signals.token // 2 + self.position * signals.position, self.share)


def divergent(numbers: torch.Tensor, share: float) -> torch.Tensor:
    """1 for a ``share`` of ``numbers``, evenly spread, else 0."""
    return ((numbers.double() * GOLDEN) % 1 < share).float()


@dataclass
class Pair:
    """``slm`` and ``llm`` are as transformers loads them. ``engines``: the models of our engines,
    by name and whether they are compiled: on a CPU copies, since engines lay out weights in a way
    of their own; on a GPU, whose memory would not hold two, the same ones. ``questions``: prompts
    in place of random ones, as token ids."""

    name: str
    slm: Any
    llm: Any
    router: Pattern
    engines: dict[tuple[str, bool], Any] = field(default_factory=dict)
    questions: list[list[int]] = field(default_factory=list)

    def share(self, share: float) -> None:
        """From now on the LLM writes this share of the tokens (of a made pair: exactly)."""
        self.router.share = share
        if self.name == "medium":
            _count(self.slm, share)
            for (name, _), model in self.engines.items():
                if name == "slm" and model is not self.slm:
                    _same_head(model, self.slm)

    def _model(self, name: str, compile: bool) -> Any:
        model = getattr(self, name)
        if (name, compile) not in self.engines:
            copied = copy.deepcopy(model) if model.device.type == "cpu" else model
            self.engines[name, compile] = copied
        return self.engines[name, compile]

    def params_m(self, name: str) -> float:
        return sum(weight.numel() for weight in getattr(self, name).parameters()) / 1e6

    def peers(self) -> None:
        """Give both models the attention that transformers would have chosen."""
        for model in (self.slm, self.llm):
            model.set_attn_implementation("sdpa")

    def engine(self, name: str, batch: int, compile: bool, **more: Any) -> TorchEngine:
        """An engine that never ends an answer before its budget."""
        return TorchEngine(
            model=self._model(name, compile), eos_ids=(), banned=[1], max_batch=batch,
            max_prefill_tokens=8192, router=self.router if name == "slm" else None,
            compile=compile, **more,
        )  # fmt: skip

    def single(self, name: str, batch: int, compile: bool) -> Single:
        engine = self.engine(name, batch, compile)
        return Single(engine=engine, source="slm" if name == "slm" else "llm", **_rest(batch))

    def routed(
        self, batch: int, patience: float | None, compile: bool, policy: Policy | None = None
    ) -> Routed:
        slm = self.engine("slm", batch, compile)
        llm = self.engine("llm", batch, compile, beside=slm, patience=patience)
        return Routed(
            policy=policy or R2R(), slm=slm, llm=llm, threshold=0.5, eos_ids=frozenset(),
            **_rest(batch),
        )  # fmt: skip

    def ours(self) -> None:
        """Give both models the engine's attention back."""
        for model in (self.slm, self.llm):
            model.set_attn_implementation(NAME)

    def prompts(self, count: int, tokens: int) -> list[Prompt]:
        """The first ``count`` questions, where there are any; else random prompts of PROMPT tokens.
        Each is answered with ``tokens`` tokens."""
        if self.questions:
            return [Prompt(ids, Sampling(tokens)) for ids in self.questions[:count]]
        highest = min(model.config.get_text_config().vocab_size for model in (self.slm, self.llm))
        rng = torch.Generator().manual_seed(0)
        ids = torch.randint(4, highest // 2, (count, PROMPT), generator=rng) * 2
        return [Prompt(row, Sampling(tokens)) for row in ids.tolist()]


class Words:
    """A tokenizer for tokens that mean nothing."""

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        return ""


def _rest(batch: int) -> dict[str, Any]:
    return {"tokenizer": Words(), "context": 8192, "concurrency": batch}


def load_questions(name: str, path: Path) -> list[list[int]]:
    """The questions of a JSONL file (``question`` in each line) as prompts of ``nano`` or the pair
    ``SLM,LLM``, through the LLM's chat template."""
    tokenizer = AutoTokenizer.from_pretrained(_paths(name)[1])
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [encode_question(tokenizer, row["question"], {}) for row in rows]


def load_pair(name: str, device: str = "cpu") -> Pair:
    """``nano`` (float32), ``medium``, or ``SLM,LLM`` by path (both bfloat16)."""
    kind = torch.float32 if name == "nano" else torch.bfloat16
    if name == "medium":
        models = [_made(which, kind) for which in ("slm", "llm")]
        for model in models:
            _count(model, 0.0)
    else:
        auto: Any = AutoModelForCausalLM  # its methods are typed as those of another class
        models = [auto.from_pretrained(path, dtype=kind) for path in _paths(name)]
    slm, llm = (model.to(device).eval() for model in models)
    shape = slm.config.get_text_config()
    widths, expansion = ROUTER.get(name, ROUTER["medium"])
    inner = MLPRouter(
        inputs=["hidden", "token", "logits"], normalize_input=False,
        hidden_size=shape.hidden_size, top_k=min(100, shape.vocab_size), hidden_dims=widths,
        expansion=expansion, dropout=0.1, token_embeddings=slm.get_input_embeddings().weight,
    )  # fmt: skip
    router = Pattern(inner, position=0 if name == "medium" else 7).to(device).eval()
    return Pair(name, slm, llm, router)


def _paths(name: str) -> list[str]:
    return [str(NANO / "slm"), str(NANO / "llm")] if name == "nano" else name.split(",")


def _made(which: str, dtype: torch.dtype) -> Any:
    hidden, layers, intermediate, heads, kv_heads, size = SHAPES[which]
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB, hidden_size=hidden, num_hidden_layers=layers,
            intermediate_size=intermediate, num_attention_heads=heads,
            num_key_value_heads=kv_heads, head_dim=size, max_position_embeddings=8192,
            tie_word_embeddings=False, eos_token_id=None, bos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip
    torch.set_default_dtype(before)
    with torch.no_grad():
        for layer in model.model.layers:  # the layers work, and hardly change what goes through
            layer.self_attn.o_proj.weight.mul_(0.01)
            layer.mlp.down_proj.weight.mul_(0.01)
        number = torch.randn(VOCAB // 2, hidden).to(dtype)
        model.model.embed_tokens.weight.copy_(number.repeat_interleave(2, dim=0))
    return model


@torch.no_grad()
def _count(model: Any, wrong: float) -> None:
    """Set the head so that number n is followed by n + 1; by its odd twin on a share of them."""
    number = model.model.embed_tokens.weight[::2].roll(1, dims=0)
    odd = divergent(torch.arange(VOCAB // 2), wrong).to(number)[:, None]
    head = model.lm_head.weight
    head[::2] = number * (1 - odd / 2)
    head[1::2] = number * (0.5 + odd / 2)


@torch.no_grad()
def _same_head(model: Any, source: Any) -> None:
    if isinstance(model.lm_head, Packed):
        model.lm_head.weight = Packed(source.lm_head).weight
    else:
        model.lm_head.weight.copy_(source.lm_head.weight)


def save_medium(folder: Path, share: float, queries: int) -> list[str]:
    """The medium pair as model folders, ``queries`` questions for it, and run.py's keys for them.

    On a ``share`` of the tokens the SLM differs from the LLM. Every SENTENCE-th number ends a
    sentence, every ANSWER-th an answer.
    """
    vocab = {"?": 0} | {_word(token): token for token in range(2, VOCAB)}  # 1: the route token
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = list(range(2 * ANSWER - 2, VOCAB, 2 * ANSWER))
    pair = load_pair("medium")
    pair.share(share)
    for name in ("slm", "llm"):
        model = getattr(pair, name)
        model.config.eos_token_id = model.generation_config.eos_token_id = ends
        model.save_pretrained(folder / name)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="?", eos_token=_word(ends[0])
        ).save_pretrained(folder / name)
    asked = [" ".join(map(_word, prompt.tokens)) for prompt in pair.prompts(queries, 1)]
    lines = [json.dumps({"question": question}) + "\n" for question in asked]
    (folder / "questions.jsonl").write_text("".join(lines))
    return [
        "pair=local", "pair.name=medium", "pair.dtype=bfloat16", "engine.max_batch=32",
        *(f"pair.{name}.path={folder / name}" for name in ("slm", "llm")),
        f"labeler.prompts.data_files={folder / 'questions.jsonl'}",
    ]  # fmt: skip


def _word(token: int) -> str:
    """Short, and with a full stop, where it ends a sentence."""
    return f"w{token}" if (token // 2 + 1) % SENTENCE else f"{np.base_repr(token, 36)}."
