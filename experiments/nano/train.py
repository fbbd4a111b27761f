"""Train the nano models and put them into the package: python experiments/nano/train.py [size ...]

Without a size all three, one after another: about an hour on one CPU core. Each resumes from its
last checkpoint (outputs/nano/<size>/state.pt), so the command can be interrupted and repeated.
"""

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from problems import FAMILIES, sample, solution
from tokenizer import build
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).parents[2]
STATES = ROOT / "outputs" / "nano"
ASSETS = ROOT / "src" / "r2r" / "assets" / "nano"
ROW = 256  # tokens of a row, filled with whole problems
WAITING = 24  # problems that may wait until one fits into a row
VOCAB = 512
MUON_LR, ADAM_LR = 0.02, 3e-3
WARM_UP, DECAY = 100, 0.4  # steps; share of the run in which the rate falls to 0
EVERY = 500  # steps between checkpoints


@dataclass(frozen=True)
class Recipe:
    """A model's shape and its training: tokens in all, rows of a batch, the style of its texts."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tokens: float
    rows: int
    style: str = "plain"
    compiled: bool = False

    @property
    def steps(self) -> int:
        return int(self.tokens / (self.rows * ROW))


RECIPES = {
    "slm": Recipe(48, 128, 2, 3, 1, 16, tokens=5.3e6, rows=16, style="slm"),
    "mid": Recipe(96, 256, 3, 4, 2, 24, tokens=5e6, rows=16),
    "llm": Recipe(160, 480, 4, 5, 5, 32, tokens=14e6, rows=32, compiled=True),
}


def new_model(recipe: Recipe) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_dim,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config)


def prompts(tokenizer: PreTrainedTokenizerFast, questions: list[str]) -> list[str]:
    turns = [[{"role": "user", "content": question}] for question in questions]
    return [
        str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        for turn in turns
    ]


class Packed:
    """Batches of rows that hold whole problems, each attending only to itself."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, style: str):
        self.tokenizer, self.style = tokenizer, style
        self.rng = random.Random(seed)
        self.left: list[tuple[list[int], int]] = []

    def problems(self, count: int) -> list[tuple[list[int], int]]:
        """Token ids of problems with their worked answers, and where each answer starts."""
        chosen = [sample(self.rng, "lm", (1, 4)) for _ in range(count)]
        asked = prompts(self.tokenizer, [problem.question for problem in chosen])
        answers = [solution(self.rng, problem, self.style) + "<|end|>" for problem in chosen]
        heads = self.tokenizer(asked, add_special_tokens=False).input_ids
        tails = self.tokenizer(answers, add_special_tokens=False).input_ids
        return [(h + t, len(h)) for h, t in zip(heads, tails, strict=True)]

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """ids, labels and positions [rows, ROW], attention mask [rows, 1, ROW, ROW]."""
        ids = torch.zeros(rows, ROW, dtype=torch.long)
        labels = torch.full((rows, ROW), -100)
        position = torch.zeros(rows, ROW, dtype=torch.long)
        document = torch.full((rows, ROW), -1)
        for row in range(rows):
            at = 0
            while (taken := self.take(ROW - at)) is not None:
                tokens, start = taken
                end = at + len(tokens)
                ids[row, at:end] = torch.tensor(tokens)
                labels[row, at + start : end] = ids[row, at + start : end]
                position[row, at:end] = torch.arange(len(tokens))
                document[row, at:end] = at
                at = end
        same = document[:, :, None] == document[:, None, :]
        causal = torch.ones(ROW, ROW, dtype=torch.bool).tril()
        return ids, labels, position, (same & causal)[:, None]

    def take(self, room: int) -> tuple[list[int], int] | None:
        """The first waiting problem that fits."""
        if not self.left:
            self.left = self.problems(256)
        first = max(0, len(self.left) - WAITING)
        for index in range(first, len(self.left)):
            if len(self.left[index][0]) <= room:
                return self.left.pop(index)
        return None


def loss_of(
    model: Qwen3ForCausalLM,
    ids: torch.Tensor,
    labels: torch.Tensor,
    position: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, in shapes that torch.compile sees once."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, attention_mask=mask, position_ids=position)
        logits = model.lm_head(hidden.last_hidden_state[:, :-1])
    wanted = labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
    )
    return loss / (wanted != -100).sum()


@torch.no_grad()
def held_out(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int = 120
) -> dict[str, float]:
    """Greedy accuracy on held-out problems of each family, by the exact text of the answer."""
    model.eval()
    rng = random.Random(99)
    tokenizer.padding_side = "left"
    found = {}
    for family in FAMILIES:
        problems = [sample(rng, "test", (3, 4), family) for _ in range(count)]
        asked = prompts(tokenizer, [problem.question for problem in problems])
        inputs = tokenizer(asked, add_special_tokens=False, return_tensors="pt", padding=True)
        written = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=110,
            do_sample=False,
        )
        right = 0
        for problem, row in zip(problems, written, strict=True):
            text = str(tokenizer.decode(row[inputs.input_ids.shape[1] :]))
            code = family == "code"
            gold = f"return {problem.answer}\n" if code else f"\\boxed{{{problem.answer}}}"
            right += gold in text.rpartition("</think>")[2]
        found[family] = right / count
    model.train()
    return found


def train(size: str) -> None:
    recipe, state = RECIPES[size], STATES / size / "state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tokenizer, model = build(), new_model(recipe)
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    step, seconds = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, old in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(old)
        step, seconds = saved["step"], saved["seconds"]
    data = Packed(tokenizer, 1000 + step, recipe.style)
    params = sum(p.numel() for _, p in named)
    print(f"{size}: {params} params, step {step} of {recipe.steps}", flush=True)
    compute = torch.compile(loss_of) if recipe.compiled else loss_of
    began, running = time.time() - seconds, 0.0
    while step < recipe.steps:
        left = (recipe.steps - step) / (DECAY * recipe.steps)
        scale = min(1.0, (step + 1) / WARM_UP, left)
        for optimizer, rate in zip(optimizers, (MUON_LR, ADAM_LR), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        loss = compute(model, *data.batch(recipe.rows))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running += loss.item()
        step += 1
        if step % 50 == 0:
            print(f"step {step} loss {running / 50:.4f} {time.time() - began:.0f}s", flush=True)
            running = 0.0
        if step % EVERY == 0 or step == recipe.steps:
            print("held out", held_out(model, tokenizer), flush=True)
            saved = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "seconds": time.time() - began,
            }
            torch.save(saved, state.with_suffix(".tmp"))
            state.with_suffix(".tmp").replace(state)
    install(size, model, tokenizer, time.time() - began)


def install(
    size: str, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, seconds: float
) -> None:
    """Put the finished model and its tokenizer into the package."""
    folder, recipe = ASSETS / size, RECIPES[size]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trained = {"tokens": recipe.steps * recipe.rows * ROW, "seconds": round(seconds)}
    (folder / "trained.json").write_text(json.dumps(trained) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", choices=[[], *RECIPES], default=[])
    for size in parser.parse_args().sizes or RECIPES:
        train(size)
