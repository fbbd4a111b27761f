"""Tiny random models, the nano pair, and what runs over them."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from r2r.engines.base import Sampling
from r2r.engines.torch.engine import TorchEngine
from r2r.policies.base import Prompt
from r2r.policies.r2r import R2R
from r2r.policies.routed import Routed
from r2r.policies.single import Single
from r2r.routers.base import Router

VOCAB, EOS, BANNED = 150, {3}, [7]
NANO = Path(__file__).parents[1] / "src" / "r2r" / "assets" / "nano"


class Wobble(Router):
    """A fixed, arbitrary function of all that a router sees, spread over 0..1."""

    def score(self, signals):
        mixed = (
            signals.hidden.sum(-1) * 3 + signals.logits[:, 0] * 5 + signals.token + signals.position
        )
        return torch.sigmoid(torch.sin(mixed) * 4)


class Back(Wobble):
    """Reads three positions, and not the last of them alone."""

    window = 3

    def score(self, signals):
        hidden = signals.hidden.unflatten(-1, (3, -1)).sum(-1) * torch.tensor([5.0, 2.0, 3.0])
        logits = signals.logits.unflatten(-1, (3, -1))[..., 0] * torch.tensor([3.0, 1.0, 5.0])
        mixed = (hidden + logits).sum(-1) + signals.token + signals.position
        return torch.sigmoid(torch.sin(mixed) * 4)


class Words:
    def decode(self, tokens, skip_special_tokens):
        return " ".join(map(str, tokens))


def tiny(kind, hidden, layers, seed):
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCAB, "hidden_size": hidden, "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "tie_word_embeddings": False, "initializer_range": 0.3,
        "bos_token_id": None, "eos_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "moe":
        shape |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": hidden}
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, head_dim=8)).eval()
    classes = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }
    config, model = classes[kind]
    return model(config(**shape)).eval()


def nano(name):
    return AutoModelForCausalLM.from_pretrained(NANO / name).eval()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("moe", "nano")]


def prompts(count, budget=24, **sampling):
    rng = torch.Generator().manual_seed(count)
    made = []
    for index in range(count):
        length = int(torch.randint(1, 30, (1,), generator=rng))
        tokens = torch.randint(8, VOCAB, (length,), generator=rng).tolist()
        made.append(Prompt(tokens, Sampling(max_new_tokens=budget - index % 5, **sampling)))
    return made


def engine(model, max_batch=32, router=None, max_prefill_tokens=256, **options):
    return TorchEngine(
        model=model, eos_ids=EOS, banned=BANNED, max_batch=max_batch,
        max_prefill_tokens=max_prefill_tokens, router=router, **options,
    )  # fmt: skip


def single(model, **options):
    return Single(engine=engine(model, **options), tokenizer=Words(), source="llm", context=256,
                  concurrency=options.get("max_batch", 32))  # fmt: skip


def routed(pair, threshold, max_batch=32, router=Wobble, policy=None, share=None, **options):
    slm, llm = pair
    return Routed(
        policy=policy or R2R(), slm=engine(slm, max_batch, router(), **options),
        llm=engine(llm, max_batch, **options), threshold=threshold, tokenizer=Words(), context=256,
        concurrency=max_batch, eos_ids=frozenset(EOS), share=share,
    )  # fmt: skip


def tokens(traces):
    return [[step.token for step in trace.steps] for trace in traces]


def sources(traces):
    return [[(s.token, s.source, s.draft) for s in trace.steps] for trace in traces]
