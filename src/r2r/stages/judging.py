"""Train the LLM's side of a policy whose test of the SLM's tokens is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from r2r.records import MANIFEST, read_json, write_json
from r2r.stages import fingerprints
from r2r.stages.label import open_labels
from r2r.stages.screen import bar, say
from r2r.stages.workbench import Workbench

RANKS = ("auroc", "average_precision")


def train_judge(bench: Workbench) -> bool:
    """Train the policy's learned test; True where that was done already."""
    key = fingerprints.judge(bench)
    reused = bench.make("train", key, lambda to: _train(bench, to))
    metrics = read_json(key.folder / MANIFEST)["metrics"]
    told = f"learned test of the LLM's side, on {metrics['test']['rows']:,} differing test tokens"
    ap = "average_precision"
    if metrics["test"][ap] is not None:
        told += f": average precision {metrics['test'][ap]:.4f}, ratio's {metrics['ratio'][ap]:.4f}"
    say("train", told, reused)
    return reused


def _train(bench: Workbench, folder: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    from r2r.labeling.heard import JudgedTokens, log_ratios
    from r2r.routers.build import build_router
    from r2r.routers.checkpoint import save_router
    from r2r.training.calibrate import quality
    from r2r.training.fit import train_router
    from r2r.training.sizes import sized_router, sized_trainer

    config, learned = bench.config, bench.learned
    assert learned is not None
    tokens = JudgedTokens(open_labels(bench, positive="divergent"))
    shape = {
        "hidden_size": tokens.shards[0]["small_last_hidden_states"].shape[1],
        "vocab_size": tokens.shards[0]["small_logits"].shape[1],
    }
    rows = sum(map(len, tokens.rows("train")))
    scorer = sized_router(learned.scorer, rows, shape["hidden_size"])
    router = build_router(scorer, **shape, token_embeddings=None, seed=config.seed)
    # A few percent of the labels: one process is enough for them.
    alone = replace(config.trainer, target_share=None, devices=1, strategy="auto")
    trainer = sized_trainer(alone, rows, scorer["hidden_dims"][0])
    with bar("train", config.stages) as move:
        fitted = train_router(
            router, tokens, trainer, folder, seed=config.seed,
            loggers=[CSVLogger(folder, name="", version="")], progress=move,
        )  # fmt: skip
    ratios, divergent = log_ratios(tokens, "test")
    known = quality(-ratios, divergent, 0.0)
    metrics: dict[str, Any] = fitted.metrics | {"ratio": {name: known[name] for name in RANKS}}
    save_router(
        folder, router, config=scorer, pair=config.pair.name,
        identity=bench.pair.identity(), **shape, threshold=fitted.threshold, metrics=metrics,
    )  # fmt: skip
    write_json(folder / MANIFEST, {"threshold": fitted.threshold, "metrics": metrics})
    for checkpoint in folder.glob("*.ckpt"):  # only an unfinished training resumes
        checkpoint.unlink()
