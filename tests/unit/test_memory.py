"""Ten times the input takes no ten times the memory where it can be streamed."""

import json
from pathlib import Path

import pytest
from finished import results, write_run
from memory import peak
from transformers import AutoTokenizer

from r2r.costs import Params, summary
from r2r.engines.base import Sampling
from r2r.journal import Journal
from r2r.policies.base import Generator, Prompt
from r2r.policies.saved import Saved
from r2r.progress import Progress
from r2r.reporting.charts import along_answer
from r2r.reporting.page import _written_by
from r2r.reporting.runs import points, read_run
from r2r.stages.samples import read_samples, write_samples
from r2r.trace import Step

NANO = Path(__file__).parents[2] / "src" / "r2r" / "assets" / "nano" / "llm"
TOKENS = 300


async def silent(prompts):
    pass


class Long(Generator):
    """Writes long answers without a model."""

    def __init__(self):
        tokenizer = AutoTokenizer.from_pretrained(NANO)
        super().__init__(tokenizer=tokenizer, context=1024, concurrency=4)

    async def write(self, prompt, budget, add, spent):
        for n in range(TOKENS):
            add(Step(n % 50 + 20, "llm" if n % 3 == 0 else "slm", 0.123456 + n))
        return "eos"


@pytest.mark.slow
def test_answers_are_kept_on_disk_and_costed_one_by_one(tmp_path):
    def most(count):
        (tmp_path / str(count)).mkdir()
        journal = Journal(tmp_path / str(count) / "answers.sqlite")
        saved = Saved(inner=Long(), journal=journal, progress=Progress(), before=silent)
        asked = [Prompt([5, 6], Sampling(TOKENS))] * count

        def work():
            assert sum(len(trace.steps) for trace in saved.each(asked)) == count * TOKENS
            rows = ({"trace": trace.to_json()} for trace in saved.kept())
            write_samples(tmp_path / str(count), rows)
            found = summary(saved.kept(), Params(1, 10), journal.seconds())
            assert found["output_tokens"] == TOKENS and found["llm_share"] == 1 / 3
            assert sum(1 for _ in read_samples(tmp_path / str(count))) == count

        return peak(work)

    most(4)  # what is loaded once
    assert most(120) < 1.5 * most(12)


@pytest.mark.slow
def test_the_report_reads_answers_one_by_one(tmp_path):
    def most(count):
        folder = write_run(tmp_path / f"{count}", results())
        row = json.dumps({"trace": {"llm": [n % 3 // 2 for n in range(2_000)]}})
        (folder / "samples" / "routed.jsonl").write_text(f"{row}\n" * count)
        (routed,) = (p for p in points([read_run(folder)]) if p.system == "routed")
        return peak(lambda: along_answer(_written_by(routed)))

    most(2)
    assert most(80) < 1.5 * most(8)
