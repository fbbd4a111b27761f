"""Logits of large vocabularies: made in slices, with the same results."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import engine, prompts, single, tiny, tokens

from r2r.engines import slices as where
from r2r.engines.slices import LOGIT_BYTES, slices
from r2r.engines.torch.attention import MASKED

READING = """
import asyncio, re, torch
from tiny import engine
from transformers import Qwen2Config, Qwen2ForCausalLM

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=8,
             num_key_value_heads=2, max_position_embeddings=16384)
model = engine(Qwen2ForCausalLM(Qwen2Config(vocab_size=152_000, **shape)).eval(),
               max_prefill_tokens=2048)
text = [n % 150_000 for n in range(8193)]
held, forward = [0], model._forward

def watched(jobs):
    forward(jobs)
    held.append(model.cache.nbytes)

model._forward = watched
asyncio.run(model.prefill(text[:200], 0))  # what is loaded once
for end, start in ((2048, 0), (8192, 8190)):
    took = []
    for _ in range(3):
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        read = asyncio.run(model.prefill(text[:end + 1], start))
        signals = (read.signals.hidden, read.signals.logits, read.signals.token, read.indices)
        took.append(peak() - before - max(held) - sum(part.nbytes for part in signals))
        del read, signals
    print(min(took))
"""


@pytest.mark.parametrize("positions", [0, 1, 110, 111, 8192])
def test_slices_cover_and_are_bounded(positions):
    found = list(slices(positions, 152_000))
    assert [at for rows in found for at in range(rows.start, rows.stop)] == list(range(positions))
    sizes = [rows.stop - rows.start for rows in found]
    assert all(4 * 152_000 * size <= LOGIT_BYTES for size in sizes)
    assert positions == 0 or max(sizes) - min(sizes) <= 1


def test_slices_change_nothing(monkeypatch):
    made, asked = tiny("qwen3", 32, 2, 0), prompts(9, temperature=1.0, seed=3)
    text = list(range(10, 140))

    def run():
        read = asyncio.run(engine(made).prefill(text, 20))
        return read, tokens(single(made).generate(asked))

    whole, answers = run()
    monkeypatch.setattr(where, "LOGIT_BYTES", 4 * 150 * 7)
    sliced, same = run()
    assert same == answers
    assert torch.equal(sliced.indices, whole.indices)
    assert torch.equal(sliced.signals.token, whole.signals.token)
    assert torch.equal(sliced.signals.hidden, whole.signals.hidden)
    torch.testing.assert_close(sliced.signals.logits, whole.signals.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_reading_takes_no_more_than_its_formula():
    """Beside what it keeps and gives. At once, the logits of 2,048 positions are 1.2 GB, and a mask
    of 2,048 tokens over 8,192 is 270 MB.

    What is freed goes back to the system at once, and the least of three readings counts: what an
    allocator keeps, or loads late, is not the reading's."""
    told = subprocess.run(
        [sys.executable, "-c", READING], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1], env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    logits, masks = map(int, told.stdout.split())
    assert logits < 3 * LOGIT_BYTES  # activations are small here
    assert masks < 5 * 4 * 4 * MASKED  # four heads share keys
