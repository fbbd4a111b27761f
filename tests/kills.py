"""Kill an evaluation and a labelling at many moments: python tests/kills.py (make drill)

More than 200 items each, whose answers are 20 times as long as each other: the nano pair works out
sums of one step to two dozen, and is lost in the longest. Each try kills a run once it has made so
many tokens, and gives the same command again, which must end with the tokens and labels of an
undisturbed run, and make nothing again that was in the journal. Every token that an engine writes
is counted as it is written, by prompt, in a file that outlives the process. Prints a tally last;
exits with 1 where anything was not as it should be.

Runs are forks of a process that has imported everything, so that 30 of them take minutes.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from job import kept, only, same_answers, same_files, samples

BATCH, SHARD = 16, 40
NATS = 1e-4  # scores are entropies here, and logits have rounded by then
RECORD = 4  # bytes of the log for each token: its prompt
JOBS = {
    "evaluate": ["stages=[train,evaluate]", "systems=[routed]", "router=entropy", "threshold=0.5",
                 "benchmark.tasks=[nano_math]", "benchmark.max_new_tokens=450",
                 "benchmark.data_files.nano_math={data}"],
    "label": ["stages=[label]", "labeler.prompts.data_files={data}", "labeler.max_new_tokens=450",
              f"labeler.shard_queries={SHARD}"],
}  # fmt: skip
KIND = {"evaluate": "evaluation", "label": "labels"}


def question(steps: int, rng: random.Random) -> str:
    value = rng.randrange(100)
    told = [f"Tom has {value} books."]
    for _ in range(steps):
        by = rng.randrange(2, 60)
        away = value >= by and rng.random() < 0.5
        value += -by if away else by
        told.append(f"Tom {'sells' if away else 'finds'} {by}.")
    return " ".join([*told, "How many books are there?"])


def write_problems(path: Path, items: int) -> None:
    rng = random.Random(0)
    asked = {question(24, rng): None}
    while len(asked) < items:
        asked[question(min(24, int(rng.paretovariate(1.5))), rng)] = None
    rows = [
        {"id": f"p{n}", "family": "math", "question": text, "answer": "1", "tests": []}
        for n, text in enumerate(asked)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def count_tokens(log: Path) -> None:
    """Have every engine of this process write down each token as it comes."""
    from r2r.engines.torch.engine import TorchEngine

    file, decode = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), TorchEngine.decode

    async def counted(self, request):
        mark, told = _mark(request.prompt), request.on_tokens

        def on_tokens(tokens, scores):
            os.write(file, mark * len(tokens))
            if told is not None:
                told(tokens, scores)

        return await decode(self, replace(request, on_tokens=on_tokens))

    TorchEngine.decode = counted


def _mark(prompt: list[int]) -> bytes:
    return zlib.crc32(repr(prompt).encode()).to_bytes(RECORD, "big")


def made(log: Path) -> Counter[bytes]:
    """Tokens by prompt."""
    told = log.read_bytes() if log.exists() else b""
    return Counter(told[at : at + RECORD] for at in range(0, len(told), RECORD))


def import_all() -> None:
    """Once, for all runs."""
    import lm_eval.evaluator  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import r2r.stages.evaluate
    import r2r.stages.label  # noqa: F401

    torch.set_num_threads(1)


def start(outputs: Path, log: Path, overrides: list[str]) -> int:
    """The command as a fork of this process; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        screen = os.open(log.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        count_tokens(log)
        sys.argv = ["run.py", *overrides, f"engine.max_batch={BATCH}", f"outputs={outputs}"]
        from r2r.stages.command import main

        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(outputs: Path, log: Path, overrides: list[str]) -> None:
    _, status = os.waitpid(start(outputs, log, overrides), 0)
    assert status == 0, log.with_suffix(".txt").read_text()[-2000:]


@dataclass
class Whole:
    """An undisturbed run: its artifact, what it made, and the prompt of each item."""

    folder: Path
    made: Counter[bytes]
    prompts: list[bytes]


@dataclass
class Kills:
    stage: str
    tried: int = 0
    whole: int = 0  # tokens of an undisturbed run
    under_way: int = 0
    twice: int = 0
    most: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        good = self.tried - len(self.wrong)
        share = 100 * self.twice / max(1, self.tried * self.whole)
        return (
            f"{self.stage:<9} {good}/{self.tried} ended as undisturbed; {self.whole:,} tokens a"
            f" run; under way at the kills {self.under_way:,}, made twice {self.twice:,}"
            f" ({share:.1f}%), {self.most:,} at most"
        )


def undisturbed(stage: str, folder: Path, overrides: list[str]) -> Whole:
    from r2r.stages.compose import compose
    from r2r.stages.label import queries
    from r2r.stages.workbench import Workbench

    log = folder.with_suffix(".log")
    finish(folder, log, overrides)
    artifact = only(folder / "artifacts" / KIND[stage])
    if stage == "evaluate":
        prompts = [row["trace"]["prompt"] for row in _answers(artifact)]
    else:
        bench = Workbench(*compose([*overrides, f"outputs={folder}"]))
        prompts = [query.tokens for query in queries(bench)]
    whole = Whole(artifact, made(log), [_mark(prompt) for prompt in prompts])
    by_item = [whole.made[mark] for mark in whole.prompts]
    assert max(by_item) >= 20 * min(by_item), sorted(by_item)
    return whole


def kill(stage: str, whole: Whole, folder: Path, overrides: list[str], share: float) -> tuple:
    """Kill a run when it has made ``share`` of its tokens, and finish it: how many tokens were
    under way then, and how many were made twice in the end."""
    first, second = folder.with_suffix(".1.log"), folder.with_suffix(".2.log")
    process = start(folder, first, overrides)
    size = share * whole.made.total() * RECORD
    while not first.exists() or first.stat().st_size < size:
        ended, _ = os.waitpid(process, os.WNOHANG)
        assert not ended, first.with_suffix(".txt").read_text()[-2000:]
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    artifact = only(folder / "artifacts" / KIND[stage])
    items = {n for journal in artifact.glob("*.sqlite") for n in kept(journal)}
    for shard in artifact.glob("shard-*"):  # whole, so that the journal has let its items go
        at = SHARD * int(shard.name.removeprefix("shard-"))
        items |= set(range(at, min(at + SHARD, len(whole.prompts))))
    finished = {whole.prompts[n] for n in items}
    before = made(first)
    under_way = sum(count for mark, count in before.items() if mark not in finished)
    finish(folder, second, overrides)
    after = made(second)
    again = [mark for mark in finished if after[mark]]
    assert not again, f"{len(again)} items that were kept were made again"
    if stage == "label":
        same_files(whole.folder, artifact)
    else:
        same_answers(*(_answers(each) for each in (whole.folder, artifact)), atol=NATS)
        assert not list(artifact.glob("*.sqlite*")) and not list(artifact.glob("progress*"))
    twice = (before + after).total() - whole.made.total()
    assert twice <= under_way, f"{twice} tokens made twice, {under_way} under way"
    return under_way, twice


def _answers(folder: Path) -> list[dict]:
    rows = samples(folder / "samples.jsonl")
    return [row | {"trace": dict(row["trace"], seconds=0)} for row in rows]


def drill(stage: str, folder: Path, data: Path, tries: int, seed: int) -> Kills:
    overrides = [each.format(data=data) for each in JOBS[stage]]
    whole = undisturbed(stage, folder / stage, overrides)
    tally = Kills(stage, whole=whole.made.total())
    rng = random.Random(seed)
    for number in range(tries):
        share = (number + rng.random()) / tries
        outputs = folder / f"{stage}-{number}"
        tally.tried += 1
        try:
            under_way, twice = kill(stage, whole, outputs, overrides, share)
            tally.under_way += under_way
            tally.twice += twice
            tally.most = max(tally.most, twice)
            where = f"{stage} killed at {share:.0%}"
            print(f"{where}: {under_way} under way, {twice} made twice", flush=True)
        except AssertionError as error:
            tally.wrong.append(f"{outputs}: {error}")
            print(tally.wrong[-1], flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=15, help="kills of each stage")
    parser.add_argument("--items", type=int, default=210, help="problems of a job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(JOBS), choices=list(JOBS))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import_all()
    with tempfile.TemporaryDirectory(prefix="r2r-kills-") as name:
        folder = Path(name)
        write_problems(data := folder / "problems.jsonl", given.items)
        tallies = [drill(stage, folder, data, given.each, given.seed) for stage in given.only]
    print(*(tally.line() for tally in tallies), sep="\n")
    return int(any(tally.wrong for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
