"""Write the nano benchmark's packaged problems, the same ones every time: python data.py"""

import json
import random
from itertools import cycle
from pathlib import Path

from problems import FAMILIES, Problem, sample

FOLDER = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "data"
STEPS = (3, 4)
COUNTS = {"train": 2000, "test": 540}
SEEDS = {"train": 101, "test": 102}


def problems(split: str) -> list[Problem]:
    """Different problems (by their numbers, whatever the wording), the families in turn."""
    rng = random.Random(SEEDS[split])
    families = cycle(FAMILIES)
    chosen: dict[tuple, Problem] = {}
    family = next(families)
    while len(chosen) < COUNTS[split]:
        problem = sample(rng, split, STEPS, family)
        if problem.key not in chosen:
            chosen[problem.key] = problem
            family = next(families)
    return list(chosen.values())


def row(problem: Problem, identifier: str) -> dict:
    return {
        "id": identifier,
        "family": problem.family,
        "question": problem.question,
        "answer": problem.answer,
        "tests": [list(test) for test in problem.tests],
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        rows = [row(p, f"nano-{split}-{n}") for n, p in enumerate(problems(split))]
        (FOLDER / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
