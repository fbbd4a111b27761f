"""What scoring costs: a router's forward beside the SLM step that it goes with.

    python benchmarks/router.py [--batches 1 8 32 128] [--repeats 20]

Networks: those of the nano and the medium pair and the paper's default (56 M) beside the step of
an SLM of the shape of Qwen3-0.6B. Peer: the same scores row by row, as a loop over requests.
"""

from __future__ import annotations

import sys

import torch
from harness import Shown, clock, finish, interleaved, middle, options, parsed, spread
from pairs import ROUTER, load_pair
from transformers import AutoModelForCausalLM, Qwen3Config

from r2r.engines.torch.attention import Layout
from r2r.engines.torch.engine import TorchEngine
from r2r.routers.mlp import MLPRouter
from r2r.trace import TokenSignals

QWEN3_06B = {
    "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
PAPER = ([1024] * 6, 4)
HELD = 256  # tokens that each request already has


def measure(engine: TorchEngine, router: MLPRouter, batch: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a step, of its scores together and one by one: medians, and the spread."""
    rows, runner = list(range(batch)), engine.runner
    with torch.inference_mode():
        layout = Layout(engine.cache, rows, [HELD] * batch, [1] * batch, runner.head.weight)
        hidden = runner.hidden([4] * batch, layout)
        values, ids = runner.head(hidden).float().topk(router.top_k)
        signals = TokenSignals(ids[:, 0], values, hidden.float(), torch.zeros(batch).long())
        each = [
            TokenSignals(*(getattr(signals, name)[row : row + 1]
                           for name in ("token", "logits", "hidden", "position")))
            for row in rows
        ]  # fmt: skip

        def timed(work: object) -> float:
            began = clock()
            work()  # type: ignore[operator]
            return 1000 * (clock() - began)

        runs = interleaved({
            "step": lambda: timed(lambda: runner.head(runner.hidden([4] * batch, layout))),
            "together": lambda: timed(lambda: router.score(signals).tolist()),
            "alone": lambda: timed(lambda: [router.score(one).tolist() for one in each]),
        }, repeats, warmups=2)  # fmt: skip
    return {name: middle(times) for name, times in runs.items()} | {
        "spread": spread(runs["together"])
    }


def main() -> int:
    parser = options(__doc__, repeats=15)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    given = parsed(parser)
    rows, lines = [], []
    for name in ("nano", "medium", "Qwen3-0.6B shape"):
        if name in ROUTER:
            pair = load_pair(name)
            slm, router = pair.slm, pair.router.inner
            del pair
        else:
            slm = AutoModelForCausalLM.from_config(Qwen3Config(**QWEN3_06B), dtype=torch.bfloat16)
            router = MLPRouter(
                inputs=["hidden", "token", "logits"], normalize_input=False,
                hidden_size=QWEN3_06B["hidden_size"], top_k=100, hidden_dims=PAPER[0],
                expansion=PAPER[1], dropout=0.1,
                token_embeddings=slm.eval().get_input_embeddings().weight,
            ).eval()  # fmt: skip
        size = sum(weight.numel() for weight in router.parameters()) / 1e6
        engine = TorchEngine(model=slm, eos_ids=(), banned=[1], max_batch=max(given.batches),
                             max_prefill_tokens=512)  # fmt: skip
        for batch in given.batches:
            found = measure(engine, router, batch, given.repeats)
            rows.append({"slm": name, "router_m": size, "batch": batch} | found)
            share = found["together"] / (found["together"] + found["step"])
            lines.append([f"{name}, {size:.2f} M", str(batch), f"{found['step']:.2f}",
                          f"{found['together']:.2f}", f"{100 * found['spread']:.0f}",
                          f"{found['alone']:.2f}", f"{100 * share:.1f}"])  # fmt: skip
    caption = "ms: an SLM step, its scores at once (±: %) and one by one. share: of step + scores."
    columns = ("SLM, router", "batch", "step", "scores", "±", "one by one", "share %")
    finish(given, "router", rows, {}, Shown("Scoring inside decode", caption, columns, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
