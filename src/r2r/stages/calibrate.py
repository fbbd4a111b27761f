"""What each threshold would do, from scores recorded on the labels; one artifact a router."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from r2r.errors import must_be
from r2r.records import MANIFEST, read_json, whole_file, write_json
from r2r.reporting.charts import threshold_figure
from r2r.reporting.runs import CALIBRATION, FIGURES, Point, as_replayed, points, runs_at
from r2r.reporting.style import save
from r2r.reporting.tables import thresholds_table
from r2r.routers.threshold import recall_at
from r2r.stages import fingerprints
from r2r.stages.label import open_labels
from r2r.stages.screen import console, say
from r2r.stages.workbench import Workbench

SCORES = "scores.npz"
SPLIT = "test"  # no training and no threshold has seen it


def calibrate(bench: Workbench, run: Path) -> bool:
    """Replay the run's router; True where that was there already.

    Without a report to come, the run's folder gets calibration.json and the curve, and the
    terminal the table, with what runs of this router measured beside it.
    """
    if bench.oracle:
        raise must_be("router", "one with scores (the oracle asks the LLM instead)", "oracle")
    if not bench.asks_router:
        raise must_be("policy", "one that asks a router", bench.config.policy["name"])
    key = fingerprints.calibration(bench)
    reused = bench.make("calibrate", key, lambda to: _replay(bench, to))
    found = _read(key.folder)
    at = found["at"]
    wanted = -bench.config.trainer.min_recall
    best = int(np.searchsorted(-np.asarray(at["recall"]), wanted, side="right")) - 1
    say(
        "calibrate",
        f"recall {at['recall'][best]:.3f} at {at['threshold'][best]:.4g}, off-policy LLM share "
        f"{100 * at['llm_share'][best]:.1f}%",
        reused,
    )
    if "report" not in bench.config.stages:
        write_json(run / CALIBRATION, found)
        measured = measured_points(bench)
        save(threshold_figure(found, measured), run / FIGURES, "thresholds")
        console.print(thresholds_table(found, measured))
    return reused


def tell_threshold(bench: Workbench) -> None:
    """Say with which threshold the run routes, and what it is expected to do where that is known:
    from ``calibrate``'s replay, or the validation labels that a router was tried on."""
    value = bench.threshold
    how = "calibrated with the router" if bench.config.threshold == "auto" else "as given"
    found = calibration(bench) if bench.needs_labels else None
    tried = bench.described_router.metrics.get("validation", {})
    expected = "not replayed on labels"
    if found:
        recall, share = _at(found["curve"], value)
        expected = f"expected: LLM share {100 * share:.1f}%, recall {100 * recall:.1f}%"
    elif "curve" in tried:
        expected = f"expected: recall {100 * recall_at(tried['curve'], value):.0f}%"
    if bench.config.hold_share is not None:
        expected = f"moved, to hold {100 * bench.config.hold_share:g}% LLM forwards a token"
    say("threshold", f"{value:.4g}, {how}; {expected}")


def _at(curve: dict[str, list[float]], threshold: float) -> tuple[float, float]:
    """Recall and LLM share of a threshold, from what was replayed: those of the next one above,
    which routes the same labels or nearly."""
    index = int(np.searchsorted(curve["threshold"], threshold))
    if index == len(curve["threshold"]):
        return 0.0, 0.0
    return curve["recall"][index], curve["llm_share"][index]


def measured_points(bench: Workbench) -> list[Point]:
    """What the finished runs below outputs measured with the run's router, as it is replayed."""
    mine = fingerprints.router_id(bench)
    runs = runs_at(Path(bench.config.outputs))
    same = [run for run in runs if as_replayed(run.results, mine)]
    return [p for p in points(same) if p.threshold is not None]


def calibration(bench: Workbench) -> dict[str, Any] | None:
    """What ``calibrate`` found for the run's router; None where it has not run."""
    key = fingerprints.calibration(bench)
    if not (key.folder / MANIFEST).exists():
        return None
    bench.use(key)
    return _read(key.folder)


def _read(folder: Path) -> dict[str, Any]:
    found = read_json(folder / MANIFEST)
    del found["made"]
    return found


def _replay(bench: Workbench, folder: Path) -> None:
    from r2r.training.replay import record, replay

    router = bench.saved_router.router
    recorded = record(router, open_labels(bench), SPLIT, bench.config.engine.device)
    with whole_file(folder / SCORES) as path, path.open("wb") as file:
        np.savez_compressed(file, scores=recorded.scores, kinds=recorded.kinds)
    about = {"pair": bench.config.pair.name, "router": bench.router_name, "split": SPLIT}
    write_json(folder / MANIFEST, about | replay(recorded, router.max_score))
