"""How our labelling rules agree with the published judge, and our sentence ends with theirs.

    python experiments/label_rules/agreement.py TOKENS.json TOKENIZER
        [--judge FOLDER --questions AIME24.jsonl --id ID]

TOKENS.json: one answer of R1-32B with the verdicts of the paper's project page (CC BY-SA 4.0; not
part of this project). TOKENIZER: a folder of the pair's, or of one with the same vocabulary. With
--judge an LLM judges every mismatch through ``labeler=judge``'s own prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2r.config import ModelConfig
from r2r.engines.torch.engine import TorchEngine
from r2r.labeling.controls import prove
from r2r.labeling.judge import EngineJudge, JudgeVerifier
from r2r.labeling.sentences import Sentences
from r2r.labeling.verify import Comparison, EquivalenceVerifier
from r2r.pairs import end_ids, load_model, load_tokenizer, token_count
from r2r.reporting.statistics import wilson
from r2r.stages.compose import compose

DRAFT = re.compile(r"(.*?)<<(.*?)(?:>>(.*)|\Z)", re.DOTALL)  # a last token has lost its >>
RESAMPLES = 10_000
STEP = 1500  # characters: a judge is shown the answer from a whole number of these on, one at least


@dataclass(frozen=True)
class Mismatch:
    """Both drafts as (before, token, rest); the answer so far; the published verdict."""

    slm: tuple[str, str, str]
    llm: tuple[str, str, str]
    begun: str
    divergent: bool


def read(path: Path) -> list[Mismatch]:
    found, text = [], ""
    for row in json.loads(path.read_text()):
        if not row["is_mismatch"]:
            text += str(row["token_text"])
            continue
        slm, llm = (draft(row[f"{who}_diverge_text"]) for who in ("small", "reference"))
        found.append(Mismatch(slm, llm, text.removesuffix(llm[0]), row["usage_type"] == 2))
        text += llm[1]
    return found


def draft(text: str) -> tuple[str, str, str]:
    match = DRAFT.fullmatch(text)
    assert match, text
    return match[1], match[2], match[3] or ""


# Sentence ends.


def ends(mismatches: Sequence[Mismatch], tokenizer: Any, *, decimals: bool) -> Counter[str]:
    """Where our sentences end, beside where the published ones do; ``decimals``: as our rule has
    it, a full stop between two digits ends none."""
    rule = Sentences(decode=tokenizer.decode, think_ids=[], eos_ids=[], limit=10**6)
    told: Counter[str] = Counter()
    drafts = [draft for each in mismatches for draft in (each.slm, each.llm)]
    for before, token, rest in drafts:
        ids = tokenizer(before + token + rest, add_special_tokens=False).input_ids
        start = len(tokenizer(before + token, add_special_tokens=False).input_ids)
        following = [*ids[1:], None] if decimals else [None] * len(ids)
        our = next(
            (end for end in range(start, len(ids) + 1) if rule.ends(ids[:end], following[end - 1])),
            None,
        )
        told["later" if our is None else "same" if our == len(ids) else "earlier"] += 1
    return told


# Verdicts.


def agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Share of equal verdicts, balanced accuracy and Cohen's kappa, with 95% intervals (Wilson's,
    and percentiles of a bootstrap over mismatches). [mismatches] bool, True: divergent."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(RESAMPLES, len(ours)))
    resampled = np.array([both(ours[rows], theirs[rows]) for rows in drawn])
    spans = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    equal = wilson(float((ours == theirs).mean()), len(ours))
    balanced, kappa = both(ours, theirs)
    return {
        "divergent": float(ours.mean()),
        "equal": [equal.value, equal.low, equal.high],
        "balanced": [balanced, *spans[:, 0]],
        "kappa": [kappa, *spans[:, 1]],
    }


def both(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy, and kappa."""
    equal = (ours == theirs).mean()
    one, other = ours.mean(), theirs.mean()
    chance = one * other + (1 - one) * (1 - other)
    found = [(ours[theirs == kind] == kind).mean() for kind in (True, False)]
    return float(np.mean(found)), float((equal - chance) / (1 - chance)) if chance < 1 else 0.0


def by_equivalence(mismatches: Sequence[Mismatch]) -> np.ndarray:
    config, _ = compose(["labeler=equivalence"])
    rule = EquivalenceVerifier(synonyms=config.labeler.synonyms, ignored=config.labeler.ignored)
    verdicts = asyncio.run(rule.verify(compared(each, "") for each in mismatches))
    return np.array([verdict != "neutral" for verdict in verdicts])


def by_numbers(mismatches: Sequence[Mismatch]) -> np.ndarray:
    """A control: divergent where the two sentences hold other numbers."""
    drafts = [["".join(draft) for draft in (each.slm, each.llm)] for each in mismatches]
    numbers = [[sorted(re.findall(r"\d+(?:\.\d+)?", text)) for text in pair] for pair in drafts]
    return np.array([one != other for one, other in numbers])


def by_judge(path: str, mismatches: Sequence[Mismatch], question: str) -> dict[str, np.ndarray]:
    """Verdicts of a judge in this process; those that it did not give count as divergent, and so
    do disputed ones."""
    model = ModelConfig(path=path)
    tokenizer = load_tokenizer(model, "judge")
    loaded: Any = load_model(model, "judge", dtype="bfloat16", device="cpu")
    engine = TorchEngine(
        model=loaded,
        eos_ids=end_ids(model, "judge", tokenizer),
        banned=range(token_count(tokenizer), loaded.config.vocab_size),
        max_batch=2,
        max_prefill_tokens=512,
    )
    judge = JudgeVerifier(EngineJudge(engine, tokenizer))
    began = time.process_time()
    proof = asyncio.run(prove(judge))
    print(
        f"\njudge: {proof} right, score {proof.score:.2f}, {time.process_time() - began:.0f} CPU s"
    )
    began = time.process_time()
    verdicts = asyncio.run(judge.verify(compared(each, question) for each in mismatches))
    each = (time.process_time() - began) / len(mismatches)
    print(f"judge: {each:.1f} CPU s a mismatch; {dict(Counter(verdicts))}")
    return {
        "judge": np.array([verdict != "neutral" for verdict in verdicts]),
        "judge, disputed as neutral": np.array([verdict == "divergent" for verdict in verdicts]),
    }


def asked(path: Path, name: str) -> str:
    rows = map(json.loads, path.read_text().splitlines())
    return next(row["problem"] for row in rows if row["id"] == name)


def compared(each: Mismatch, question: str) -> Comparison:
    begun = each.begun[max(0, len(each.begun) // STEP - 1) * STEP :]
    return Comparison(question, begun, each.llm[0], *each.slm[1:], *each.llm[1:])


def shown(name: str, found: dict[str, Any]) -> str:
    def span(values: Sequence[float], scale: int, digits: int) -> str:
        value, low, high = (f"{scale * each:.{digits}f}" for each in values)
        return f"{value} ({low} to {high})"

    return (
        f"| {name} | {100 * found['divergent']:.1f} | {span(found['equal'], 100, 1)} |"
        f" {span(found['balanced'], 1, 2)} | {span(found['kappa'], 1, 2)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--questions", type=Path, help="JSONL with id and problem")
    parser.add_argument("--id", help="of the question")
    parser.add_argument("--judge", help="folder of a local judge")
    given = parser.parse_args()
    if given.judge and not (given.questions and given.id):
        parser.error("--judge needs --questions and --id")
    mismatches = read(given.tokens)
    theirs = np.array([each.divergent for each in mismatches])
    print(f"{len(mismatches)} mismatches, {theirs.sum()} divergent\n")
    tokenizer = load_tokenizer(ModelConfig(path=given.tokenizer), "tokenizer")
    print("| our sentence ends | same | earlier | later |\n| --- | ---: | ---: | ---: |")
    for name, decimals in (("without decimals", False), ("with decimals", True)):
        told = ends(mismatches, tokenizer, decimals=decimals)
        print(f"| {name} | {told['same']} | {told['earlier']} | {told['later']} |")
    rules = {
        "always neutral": np.zeros(len(theirs), bool),
        "always divergent": np.ones(len(theirs), bool),
        "control: other numbers": by_numbers(mismatches),
        "equivalence": by_equivalence(mismatches),
    }
    if given.judge:
        question = asked(given.questions, given.id)
        rules |= by_judge(given.judge, mismatches, question)
    print("\n| rule | divergent % | equal % | balanced accuracy | kappa |")
    print("| --- | ---: | --- | --- | --- |")
    for name, ours in rules.items():
        print(shown(name, agreement(ours, theirs)))


if __name__ == "__main__":
    main()
