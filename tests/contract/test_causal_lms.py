"""Every causal LM class of transformers: equal to ``generate``, alone and in batches, beyond a
sliding window too, or refused by name."""

import asyncio
from pathlib import Path

import pytest
import torch
from causal_lms import NAMES, WINDOW, table, tiny_config, tiny_model

from r2r.engines.base import Request
from r2r.engines.torch.engine import TorchEngine
from r2r.engines.torch.exact import EXACT, check_exact
from r2r.errors import ConfigError
from r2r.routers.base import Router

LENGTHS, BUDGET = (20, 1, 33), 8
QUICK = {"llama", "qwen3", "gemma2", "gpt_oss", "cohere2"}
KINDS = {kind: kind for kind in NAMES if NAMES[kind] in EXACT}
RUN = [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
REFUSED = sorted(set(NAMES.values()) - EXACT)
DOCS = Path(__file__).parents[2] / "docs" / "models.md"


class Watching(Router):
    """Notes what it is shown of each answer, by position and token before any other."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def score(self, signals):
        rows = zip(signals.hidden, signals.logits, signals.position.tolist(), strict=True)
        self.seen += [(at, hidden.clone(), logits.clone()) for hidden, logits, at in rows]
        return torch.zeros(len(signals.token))


def texts():
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(3, 60, (length,), generator=rng).tolist() for length in LENGTHS]


def apart(given, expected):
    return float((given - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", RUN)
@torch.inference_mode()
def test_it_equals_generate(kind):
    model, asked, expected, known = tiny_model(kind), texts(), [], []
    for text in asked:
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        out = model.generate(torch.tensor([text]), max_new_tokens=BUDGET, **options)
        expected.append(out[0, len(text) :].tolist())
        whole = model(input_ids=out, output_hidden_states=True, use_cache=False)
        rows = slice(len(text) - 1, -1)
        known.append((whole.hidden_states[-1][0, rows], whole.logits[0, rows]))
    assert len({tuple(answer) for answer in expected}) > 1
    router = Watching()
    engine = TorchEngine(
        model=model, eos_ids=[], banned=[], max_batch=4, max_prefill_tokens=24, router=router
    )

    async def run(several):
        async def one(text):
            return (await engine.decode(Request(text, [], BUDGET, threshold=2.0))).tokens

        if several:
            return await asyncio.gather(*map(one, asked))
        return [await one(text) for text in asked]

    assert asyncio.run(run(False)) == expected
    one_by_one = iter(router.seen)
    for hidden, logits in known:
        ranked = logits.sort(descending=True).values
        for at in range(BUDGET):
            position, seen, raw = next(one_by_one)
            assert position == at
            assert apart(seen, hidden[at]) < 1e-4
            assert apart(raw, ranked[at]) < 1e-4
    assert asyncio.run(run(True)) == expected


def shape(kind, **other):
    plain = {"class": kind, "layers": [], "window": None, "ropes": {}, "bidirectional": False}
    return plain | other


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_by_name(kind):
    with pytest.raises(ConfigError, match=rf"^pair\.llm must be a model .*got {kind}: ") as caught:
        check_exact(shape(kind), "pair.llm", 100)
    assert "\n" not in str(caught.value)
    assert "was not held against generate" not in str(caught.value)  # each with its reason


@pytest.mark.parametrize(
    "other, message",
    [
        ({"layers": ["full_attention", "chunked_attention"]}, "layers of chunked_attention"),
        ({"bidirectional": True}, "sees what comes later"),
        ({"ropes": {"longrope": 99}}, r"context_length must be at most 99 .*longrope.*, got 100"),
        ({"ropes": {"dynamic": 99}}, r"context_length must be at most 99 .*dynamic.*, got 100"),
        ({"ropes": {"default": 1, "odd": 1}}, "odd rope"),
    ],
)
def test_what_a_config_adds_is_refused(other, message):
    check_exact(shape("Phi3ForCausalLM"), "pair.slm", 100)
    with pytest.raises(ConfigError, match=message):
        check_exact(shape("Phi3ForCausalLM", **other), "pair.slm", 100)


def test_what_changes_nothing_over_the_context_is_not_refused():
    ropes = {"default": 9, "yarn": 9, "llama3": 9, "linear": 9, "longrope": 100, "dynamic": 100}
    layers = ["full_attention", "sliding_attention"]
    check_exact(shape("Phi3ForCausalLM", ropes=ropes, layers=layers, window=9), "pair.slm", 100)
    check_exact(shape("PhimoeForCausalLM", window=100), "pair.slm", 100)
    check_exact(shape("Qwen2MoeForCausalLM", window=9, layers=layers[:1]), "pair.slm", 100)
    with pytest.raises(ConfigError, match=r"at most 99 tokens .*sliding window"):
        check_exact(shape("PhimoeForCausalLM", window=99), "pair.slm", 100)


def test_windows_are_tested_beyond_them():
    windowed = [
        kind
        for kind in KINDS
        if tiny_config(kind).get_text_config().to_dict().get("sliding_window")
    ]
    assert max(LENGTHS) > WINDOW and len(windowed) > 20


def test_the_table_is_current():
    assert table() in DOCS.read_text()
