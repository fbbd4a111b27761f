"""How labelling rules agree with each other: label folders made from the same prompts.

``likelihood`` at any bound is read off the LLM's columns that every label folder holds.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
from agreement import agreement, shown

from r2r.labeling.dataset import Labels


def verdicts(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Of the mismatches in order: the LLM's tokens, and labels (1 divergent, 0, -1 none)."""
    found = [(s["real_token"][rows], s["divergent"][rows]) for s, rows in differing(labels)]
    tokens, divergent = zip(*found, strict=True)
    return np.concatenate(tokens), np.concatenate(divergent)


def differing(labels: Labels) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    return [(shard, np.flatnonzero(shard["mismatch"] == 1)) for shard in labels.shards]


def likelihood(labels: Labels, bound: float) -> np.ndarray:
    """Where the LLM finds the SLM's token less than ``bound`` times as likely as its own."""
    found = []
    for (shard, rows), large in zip(differing(labels), labels.large, strict=True):
        logits = large["large_logits"].astype(np.float32)
        given = large["large_indices"] == shard["small_token"][rows][:, None]
        relative = np.where(given, logits - logits[:, :1], -np.inf).max(axis=1)
        found.append(np.exp(relative) < bound)
    return np.concatenate(found).astype(np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", nargs="+", type=Path, help="folders in outputs/artifacts/labels")
    parser.add_argument("--bounds", nargs="*", type=float, default=[], help="of likelihood")
    given = parser.parse_args()
    opened = [Labels.open(folder) for folder in given.labels]
    by_rule, answers = {}, verdicts(opened[0])[0]
    for labels in opened:
        name = labels.manifest["verifier"]
        tokens, by_rule[name] = verdicts(labels)
        if not np.array_equal(tokens, answers):
            parser.error("labels must be of the same answers: same pair, prompts and length")
        counts = labels.manifest["counts"]
        rows = counts["rows"] - counts["masked"]
        print(
            f"{name}: {labels.manifest['queries']} answers, {rows:,} tokens,"
            f" {len(tokens):,} differ, {counts['divergent']:,} divergent"
            f" ({100 * counts['divergent'] / rows:.2f}%), {counts['unsampled']:,} not sampled,"
            f" {counts['unverified']:,} unverified"
        )
    by_rule |= {f"likelihood {bound:g}": likelihood(opened[0], bound) for bound in given.bounds}
    print("\n| rule, beside | divergent % | equal % | balanced accuracy | kappa |")
    print("| --- | ---: | --- | --- | --- |")
    for (one, ours), (other, theirs) in combinations(by_rule.items(), 2):
        both = (ours >= 0) & (theirs >= 0)
        print(shown(f"{one}, {other}", agreement(ours[both] == 1, theirs[both] == 1)))


if __name__ == "__main__":
    main()
