"""The label-quality report: what a person looks at before training on labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2r.labeling.controls import Proof
from r2r.labeling.finished import KINDS
from r2r.records import MANIFEST, read_json, whole_file

REPORT = "report.md"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two verifiers' verdicts on the same tokens: how many both called neutral, and so on."""

    one: str
    other: str
    neutral: int
    divergent: int
    only_one: int  # divergent for ``one`` alone
    only_other: int

    @property
    def share(self) -> float:
        total = self.neutral + self.divergent + self.only_one + self.only_other
        return (self.neutral + self.divergent) / total if total else 0.0


def agreement(folder: Path, other: Path) -> Agreement | None:
    """How the verifiers of two label datasets agree, None where those are of other tokens."""
    (one, mine), (two, theirs) = (_verdicts(each) for each in (folder, other))
    for name in ("data_id", "small_token", "real_token"):
        if not np.array_equal(mine[name], theirs[name]):
            return None
    judged = (mine["mismatch"] == 1) & (mine["divergent"] >= 0) & (theirs["divergent"] >= 0)
    first, second = mine["divergent"][judged] == 1, theirs["divergent"][judged] == 1
    return Agreement(
        one=one,
        other=two,
        neutral=int((~first & ~second).sum()),
        divergent=int((first & second).sum()),
        only_one=int((first & ~second).sum()),
        only_other=int((~first & second).sum()),
    )


def _verdicts(folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Who judged a dataset's tokens, and what they are [rows]."""
    manifest = read_json(folder / MANIFEST)
    shards = [folder / entry["name"] for entry in manifest["shards"] if entry["rows"]]
    names = ("data_id", "small_token", "real_token", "mismatch", "divergent")
    columns = {
        name: np.concatenate([np.zeros(0, int), *(np.load(s / f"{name}.npy") for s in shards)])
        for name in names
    }
    return manifest["verifier"], columns


def write_report(folder: Path) -> Path:
    """Write ``folder``/report.md, and return its path.

    Labels of the same tokens by another verifier are looked for beside ``folder``.
    """
    manifest = read_json(folder / MANIFEST)
    found = []
    for path in sorted(folder.parent.glob(f"*/{MANIFEST}")):
        other = read_json(path)
        rows = other["counts"]["rows"] == manifest["counts"]["rows"]
        judge = other.get("verifier")  # labels of earlier versions do not say
        if rows and judge not in (None, manifest["verifier"]):
            compared = agreement(folder, path.parent)
            found += [compared] if compared else []
    with whole_file(folder / REPORT) as temporary:
        temporary.write_text(markdown(manifest, found), encoding="utf-8")
    return folder / REPORT


def markdown(manifest: dict[str, Any], agreements: Sequence[Agreement]) -> str:
    counts, report = manifest["counts"], manifest["report"]
    judged = sum(counts[kind] for kind in KINDS)
    lines = [
        f"# Labels of {manifest['queries']:,} queries by {manifest['verifier']}",
        "",
        "| tokens | count | share % | mean entropy, nats |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind in KINDS:
        entropy = report["mean_entropy"][kind]
        shown = "" if entropy is None else f"{entropy:.3f}"
        lines.append(f"| {kind} | {counts[kind]:,} | {_percent(counts[kind], judged)} | {shown} |")
    unsampled = counts.get("unsampled", 0)  # labels of earlier versions do not say
    dropped = ", ".join(f"{count:,} {why}" for why, count in manifest["dropped"].items())
    lines += [
        "",
        f"Tokens without a label: {counts['masked']:,} masked, {counts['unverified']:,} unverified"
        + (f", {unsampled:,} of the differing ones not sampled" if unsampled else "")
        + f". Responses left out: {dropped or 'none'}.",
    ]
    if controls := manifest.get("controls"):
        lines += [f"Before it labelled, the rule judged {Proof.from_json(controls)} right."]
    ratio = _entropy_ratio(counts, report["mean_entropy"])
    if ratio is not None:
        lines += [f"Divergent tokens have {ratio:.1f} times the mean entropy of all others."]
    if manifest["verifier"] == "judge":
        different = counts["neutral"] + counts["divergent"] + counts["unverified"]
        lines += [
            f"The judge changed its mind with the order of presentation on {counts['disputed']:,}"
            f" ({_percent(counts['disputed'], different)}%) of {different:,} differing tokens;"
            " those count as divergent."
        ]
    lines += ["", "## Agreement with other verifiers", ""]
    for a in agreements:
        lines.append(
            f"- {a.one} and {a.other} agree on {100 * a.share:.1f}%: {a.divergent:,} divergent and"
            f" {a.neutral:,} neutral for both, {a.only_one:,} divergent for {a.one} alone,"
            f" {a.only_other:,} for {a.other} alone."
        )
    lines += [] if agreements else ["No other verifier has labelled the same tokens."]
    lines += [
        "",
        "## Tokens most often divergent",
        "",
        "| the SLM wrote | divergent | of its tokens | share % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in report["divergent_tokens"]:
        share = _percent(row["count"], row["seen"])
        lines.append(f"| `{row['text']!r}` | {row['count']:,} | {row['seen']:,} | {share} |")
    lines += ["", "## A sample to read", "", "The token that differs is «marked»."]
    for kind, examples in report["examples"].items():
        for example in examples:
            lines += [
                "",
                f"**{kind}**, query {example['query']}, token {example['position']}",
                "",
                "```",
                f"question: {example['question']}",
                f"SLM:      {example['slm'].rstrip()}",
                f"LLM:      {example['llm'].rstrip()}",
                "```",
            ]
    return "\n".join([*lines, ""])


def _percent(count: int, total: int) -> str:
    return f"{100 * count / max(1, total):.1f}"


def _entropy_ratio(counts: dict[str, int], means: dict[str, float | None]) -> float | None:
    """Mean entropy of divergent tokens over that of all others, None where either has none."""
    others = counts["identical"] + counts["neutral"]
    total = sum(counts[kind] * (means[kind] or 0.0) for kind in ("identical", "neutral"))
    return means["divergent"] * others / total if means["divergent"] and total else None
