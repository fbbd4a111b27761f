"""Train one nano language model: python train.py slm|mid|llm. Resumes from its last checkpoint."""

import argparse
import json
import os
import random
import time
from pathlib import Path

import torch
from problems import FAMILIES, sample, solution
from tokenizer import build
from transformers import Qwen3Config, Qwen3ForCausalLM

SIZES = {
    "slm": {
        "hidden_size": 48,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 16,
    },
    "mid": {
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
    },
    "llm": {
        "hidden_size": 160,
        "intermediate_size": 480,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "head_dim": 32,
    },
}
ROW = 256  # tokens of packed problems a row
VOCAB = 512


def new_model(size: str) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCAB,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        initializer_range=0.02,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
        **SIZES[size],
    )
    return Qwen3ForCausalLM(config)


class Packed:
    """Rows of whole problems one after another, each attending only to itself."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.tokenizer = build()
        self.left: list[tuple[list[int], int]] = []

    def problems(self, count: int):
        chosen = [sample(self.rng, "lm", (1, 4)) for _ in range(count)]
        prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": p.question}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for p in chosen
        ]
        answers = [solution(self.rng, p) + "<|end|>" for p in chosen]
        heads = self.tokenizer(prompts, add_special_tokens=False).input_ids
        tails = self.tokenizer(answers, add_special_tokens=False).input_ids
        return [(h + t, len(h)) for h, t in zip(heads, tails, strict=True)]

    def batch(self, rows: int):
        ids = torch.zeros(rows, ROW, dtype=torch.long)
        labels = torch.full((rows, ROW), -100)
        position = torch.zeros(rows, ROW, dtype=torch.long)
        document = torch.full((rows, ROW), -1)
        for row in range(rows):
            at = 0
            while True:
                if not self.left:
                    self.left = self.problems(256)
                fits = next(
                    (i for i, (d, _) in enumerate(self.left[-24:]) if len(d) <= ROW - at), None
                )
                if fits is None:
                    break
                tokens, start = self.left.pop(max(0, len(self.left) - 24) + fits)
                end = at + len(tokens)
                ids[row, at:end] = torch.tensor(tokens)
                labels[row, at + start : end] = ids[row, at + start : end]
                position[row, at:end] = torch.arange(len(tokens))
                document[row, at:end] = at
                at = end
        same = document[:, :, None] == document[:, None, :]
        causal = torch.ones(ROW, ROW, dtype=torch.bool).tril()
        return ids, labels, position, (same & causal)[:, None]


def loss_of(model, ids, labels, position, mask):
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=ids, attention_mask=mask, position_ids=position
        ).last_hidden_state
    keep = labels[:, 1:] != -100
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.lm_head(hidden[:, :-1])
    # Full-vocabulary loss at every position, with a static shape for torch.compile.
    loss = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )
    return loss / keep.sum()


@torch.no_grad()
def accuracy(model, tokenizer, count: int = 120, seed: int = 99) -> dict[str, float]:
    """Greedy whole-problem accuracy on held-out problems, by exact text of the answer."""
    model.eval()
    rng = random.Random(seed)
    right = dict.fromkeys(FAMILIES, 0)
    for family in FAMILIES:
        problems = [sample(rng, "test", (3, 4), family) for _ in range(count)]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": p.question}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for p in problems
        ]
        tokenizer.padding_side = "left"
        inputs = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True)
        out = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=110,
            do_sample=False,
        )
        for problem, row in zip(problems, out, strict=True):
            text = tokenizer.decode(row[inputs.input_ids.shape[1] :], skip_special_tokens=True)
            tail = text.rpartition("</think>")[2]
            gold = (
                f"return {problem.answer}\n" if family == "code" else f"\\boxed{{{problem.answer}}}"
            )
            right[family] += gold in tail
    model.train()
    return {family: n / count for family, n in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--tokens", type=float, required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=3e-3)
    parser.add_argument("--out", default="run")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    folder = Path(args.out) / args.size
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(args.size)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(
            matrices,
            lr=args.muon,
            weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw" if args.muon < 0.01 else "original",
        ),
        torch.optim.AdamW(rest, lr=args.adam, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    base = [args.muon, args.adam]
    steps = int(args.tokens / (args.rows * ROW))
    step, spent = 0, 0.0
    state = folder / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, old in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(old)
        step, spent = saved["step"], saved["seconds"]
    data = Packed(seed=1000 + step)
    print(sum(p.numel() for p in model.parameters()), "params", steps, "steps", flush=True)
    compute = torch.compile(loss_of) if args.compile else loss_of
    began = time.time() - spent
    running = 0.0
    while step < steps:
        scale = min(1.0, (step + 1) / 100, (steps - step) / (0.4 * steps))
        for optimizer, lr in zip(optimizers, base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
        loss = compute(model, *data.batch(args.rows))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running += loss.item()
        step += 1
        if step % 50 == 0:
            rate = args.rows * ROW * step / (time.time() - began)
            print(
                f"step {step} loss {running / 50:.4f} {rate:.0f} tok/s {time.time() - began:.0f}s",
                flush=True,
            )
            running = 0.0
        if step % 500 == 0 or step == steps:
            print("held out", accuracy(model, data.tokenizer), flush=True)
            saved = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step,
                "seconds": time.time() - began,
            }
            torch.save(saved, state.with_suffix(".tmp"))
            state.with_suffix(".tmp").rename(state)
    model.save_pretrained(folder / "final")
    data.tokenizer.save_pretrained(folder / "final")
    (folder / "final" / "trained.json").write_text(
        json.dumps({"tokens": steps * args.rows * ROW, "seconds": time.time() - began})
    )


if __name__ == "__main__":
    main()
