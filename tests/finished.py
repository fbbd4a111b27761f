"""A finished run made up for tests of what is read back from it."""

import json
from pathlib import Path
from typing import Any


def system(accuracy, llm_share, params_b, published_b=None, tokens=90.0) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_stderr": 0.017,
        "accuracy_interval": [accuracy - 0.034, accuracy + 0.033],
        "n": 300,
        "llm_share": llm_share,
        "avg_params_b": params_b,
        "avg_params_published_b": params_b if published_b is None else published_b,
        "cost": params_b * tokens,
        "output_tokens": tokens,
        "cut_answers": 7,
        "cut_share": 7 / 300,
        "seconds": 12.5,
        "tokens_per_s": 2160.4,
    }


def results() -> dict[str, Any]:
    return {
        "pair": "nano",
        "benchmark": "nano_all",
        "threshold": 0.1,
        "router": "mlp",
        "router_id": "abc",
        "seed": 0,
        "systems": {
            "slm": system(0.41, 0.0, 72e-6, tokens=92.0),
            "llm": system(0.953, 1.0, 1.5e-3, tokens=90.0),
            "routed": system(0.901, 0.182, 0.36e-3, 0.33e-3),
            "entropy": system(0.89, 0.18, 0.35e-3, 0.32e-3),
            "mid_50%": system(0.79, 1.0, 0.41e-3),
        },
        "differences": [
            {"system": "routed", "other": "llm", "difference": -0.05, "interval": [-0.08, -0.03]}
        ],
    }


def trace_row(name: str, piece: str, question: str = "What is 3 + 4?") -> dict[str, Any]:
    return {
        "id": "problem-0", "task": "nano_math", "question": question, "gold": "7",
        "correct": name != "slm", "system": name, "pieces": ["So", piece, "="],
        "llm": [0, 1, 0], "scores": [0.0, 0.9, 0.1], "drafts": [None, " 2", None],
        "alternatives": [None, [[" 2", 0.6], [piece, 0.3]], None],
    }  # fmt: skip


def calibration() -> dict[str, Any]:
    columns = ("threshold", "recall", "precision", "positive_rate", "llm_share")
    curve = {name: [0.1, 0.5, 0.9] for name in columns}
    counts = {kind: [5, 2, 1] for kind in ("identical", "neutral", "divergent")}
    return {
        "pair": "nano", "router": "mlp", "split": "test", "rows": 24, "divergent": 8,
        "curve": curve, "at": curve, "histogram": {"edges": [0, 0.3, 0.6, 1.0]} | counts,
        "reliability": {"score": [0.1, 0.9], "divergent": [0.0, 0.6], "tokens": [5, 3]},
    }  # fmt: skip


def write_run(folder: Path, found: dict[str, Any], pieces: str = " 3") -> Path:
    """A run's folder with all that the report reads."""
    (folder / "samples").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found))
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    rows = [trace_row(name, pieces, pieces) for name in ("slm", "routed")]
    (folder / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sample = {"trace": {"llm": [0, 1, 0]}}
    (folder / "samples" / "routed.jsonl").write_text(json.dumps(sample) + "\n")
    (folder / "training.csv").write_text(
        "epoch,step,train/loss,val/loss,val/average_precision\n0,9,,0.5,0.4\n0,9,0.6,,\n1,19,,0.4,0.5\n1,19,0.5,,\n"
    )
    return folder
