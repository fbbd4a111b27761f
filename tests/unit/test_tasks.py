"""The packaged problems, and benchmarks from the config to the score."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_adapter import NANO, Scripted, model
from transformers import AutoTokenizer

from r2r.config import BenchmarkConfig
from r2r.errors import ConfigError
from r2r.evaluation import harness, questions, sources
from r2r.jsonl import read_jsonl
from r2r.trace import Step

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "experiments" / "nano"))
import data as nano_data  # noqa: E402


def nano(**options):
    return BenchmarkConfig(name="nano", tasks=["nano_math", "nano_qa", "nano_code"], **options)


def one_task(task, path, **options):
    return BenchmarkConfig(name="b", tasks=[task], data_files={task: str(path)}, **options)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Solver(Scripted):
    """Answers the nano test problems, every fourth one wrongly; the LLM writes five tokens."""

    def __init__(self):
        super().__init__(AutoTokenizer.from_pretrained(NANO))
        self.solutions = {}
        for n, row in enumerate(read_jsonl(sources.NANO / "test.jsonl", "test")):
            answer = row["answer"] if n % 4 else "9"
            program = f"```python\ndef f(x):\n    return {answer}\n```"
            boxed = f"\\boxed{{{answer}}}"
            self.solutions[row["question"]] = program if row["family"] == "code" else boxed

    async def write(self, prompt, budget, add, spent):
        asked = self.tokenizer.decode(prompt.tokens)
        question = asked.removeprefix("<|bos|><|user|>").removesuffix("<|assistant|><think>")
        text = f"So it is.\n</think>{self.solutions[question]}"
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        for n, token in enumerate(ids[:budget]):
            add(Step(token, "llm" if n < 5 else "slm"))
        return "length"


# The packaged problems


@pytest.fixture(scope="module")
def made():
    return {split: nano_data.problems(split) for split in nano_data.COUNTS}


@pytest.mark.parametrize("split", nano_data.COUNTS)
def test_the_packaged_problems_are_what_the_script_writes(made, split):
    rows = read_jsonl(sources.NANO / f"{split}.jsonl", split)
    expected = [nano_data.row(p, f"nano-{split}-{n}") for n, p in enumerate(made[split])]
    assert rows == expected, "experiments/nano/data.py has to be run again"


def test_splits_share_no_problem(made):
    keys = {split: {problem.key for problem in made[split]} for split in made}
    assert not keys["train"] & keys["test"]
    for split in made:
        assert len(keys[split]) == nano_data.COUNTS[split]
        assert {problem.split for problem in made[split]} == {split}


def test_every_family_has_as_many_held_out_problems(made):
    families = [problem.family for problem in made["test"]]
    assert [families.count(name) for name in ("math", "qa", "code")] == [180, 180, 180]


# Benchmarks


def test_a_benchmark_is_scored_over_all_its_problems():
    lm = model(Solver())
    result = harness.evaluate(lm, nano(limit=8))
    assert (result["n"], len(result["samples"])) == (24, 24)
    assert result["accuracy"] == pytest.approx(0.75)
    assert result["accuracy_stderr"] == pytest.approx((0.75 * 0.25 / 23) ** 0.5)
    assert set(result["tasks"]) == {"nano_math", "nano_qa", "nano_code"}
    first = result["samples"][0]
    assert (first["task"], first["doc_id"], first["id"]) == ("nano_math", 0, "nano-test-0")
    assert (first["correct"], first["gold"] == "9") == (False, False)
    for name in result["tasks"]:
        rows = [row for row in result["samples"] if row["task"] == name]
        tokens = sum(row["stats"]["output_tokens"] for row in rows)
        assert result["tasks"][name]["llm_share"] == pytest.approx(5 * len(rows) / tokens)
        assert result["tasks"][name]["output_tokens"] == pytest.approx(tokens / len(rows))


def test_repeats_are_averaged_for_each_problem():
    class Improving(Solver):
        async def write(self, prompt, budget, add, spent):
            repeated = any(prompt.tokens == other.tokens for other in self.asked)
            self.asked.append(prompt)
            return await super().write(prompt, budget if repeated else 1, add, spent)

    benchmark = BenchmarkConfig(name="b", tasks=["nano_math"], limit=2, repeats=2)
    result = harness.evaluate(model(Improving()), benchmark)
    assert (result["accuracy"], result["n"]) == (0.25, 2)  # the first problem is never solved
    graded = [(row["doc_id"], row["repeat"], row["correct"]) for row in result["samples"]]
    assert graded == [(0, 0, False), (0, 1, False), (1, 0, False), (1, 1, True)]


def test_the_terminal_stays_clean(capfd):
    harness.evaluate(model(Solver()), nano(limit=1))
    assert capfd.readouterr() == ("", "")


def test_training_prompts_come_from_the_tasks_in_turn():
    asked = harness.prompts(nano())
    assert len(asked) == 2000
    assert [name for name, _ in asked[:3]] == ["nano-train-0", "nano-train-1", "nano-train-2"]
    assert "def" not in asked[0][1] and asked[2][1].startswith("Write a Python function f(x)")


def test_gsm8k_asks_for_a_box_and_reads_the_gold_after_the_hashes(tmp_path):
    rows = [{"question": "How many {{x}}?", "answer": "1+1=2\n#### 2,000"}]
    benchmark = one_task("gsm8k", write_jsonl(tmp_path / "g.jsonl", rows))
    lm = model(Scripted(AutoTokenizer.from_pretrained(NANO), "</think>\\boxed{2000}"))
    (sample,) = harness.evaluate(lm, benchmark)["samples"]
    assert sample["question"] == (
        "How many {{x}}?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert (sample["gold"], sample["correct"]) == ("2000", True)


def test_the_aime_prompt_is_the_problem_alone(tmp_path):
    for row in ({"problem": "P", "expected_answer": "033"}, {"problem": "P", "answer": "033"}):
        benchmark = one_task("aime24", write_jsonl(tmp_path / "a.jsonl", [row]))
        lm = model(Scripted(AutoTokenizer.from_pretrained(NANO), "</think>\\boxed{33}"))
        (sample,) = harness.evaluate(lm, benchmark)["samples"]
        assert (sample["question"], sample["correct"]) == ("P", True)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
@pytest.mark.parametrize(
    ("task", "file", "count", "first"),
    [
        ("aime24", "aime24/aime24_nemo_skills.jsonl", 30, "73"),
        ("aime25", "aime25/aime25_nemo_skills.jsonl", 30, "70"),
        ("gsm8k", "gsm8k/gsm8k_train.jsonl", 7473, "72"),
    ],
)
def test_the_public_files_are_read(task, file, count, first):
    found = sources.problems(task, "test", {task: str(SHARED / file)})
    assert (len(found), found[0]["answer"]) == (count, first)
    assert all(problem["answer"].lstrip("-").isdigit() for problem in found)


def test_the_yamls_are_the_tasks():
    names = {path.stem for path in questions.TASKS.glob("*.yaml")} - {"shared", "choices"}
    assert names == set(sources.SOURCES)


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["nano_maths"]}, r"benchmark.tasks .*'nano_maths'.*did you mean 'nano_math'"),
        ({"tasks": []}, "benchmark.tasks must be at least one task"),
        ({"tasks": ["aime24"], "limit": 0}, "benchmark.limit must be at least 1, got 0"),
        ({"tasks": ["aime24"], "repeats": 0}, "benchmark.repeats must be at least 1, got 0"),
        (
            {"tasks": ["aime24"], "data_files": {"aime25": "x"}},
            r"benchmark.data_files .*'aime25'; did you mean 'aime24'\? \(choices: aime24, ",
        ),
        (
            {"tasks": ["aime24"], "data_files": {"aime24": "/no/such.jsonl"}},
            "benchmark.data_files.aime24 must be a readable JSONL file.*/no/such.jsonl",
        ),
    ],
)
def test_a_wrong_benchmark_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        harness.check_benchmark(BenchmarkConfig(name="b", **options))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "P", "answer": "1"}\n\n{"problem": "P", "ans', r"a.jsonl, line 3: not JSON"),
        ("[1, 2]\n", r"line 1: must be a JSON object, got list"),
        ("\udcff\n", r"line 1: not JSON"),
        ("", "no problems for task aime24"),
        ('{"text": "P", "answer": "1"}', "must have a field question or problem, got text, answer"),
        ('{"problem": "P"}', "must have a field expected_answer or answer, got problem"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for split in ("aime24", "aime24_train"):
        benchmark = BenchmarkConfig(name="b", tasks=["aime24"], data_files={split: str(path)})
        with pytest.raises(ConfigError, match=message):
            harness.check_benchmark(benchmark)


def test_a_benchmark_without_a_train_split_says_what_to_set():
    with pytest.raises(ConfigError, match=r"aime24 has no train .*labeler.prompts.data_files"):
        harness.prompts(BenchmarkConfig(name="b", tasks=["aime24"]))


def test_another_file_is_another_identity(tmp_path):
    def identity(answer):
        rows = [{"problem": "P", "answer": answer}]
        return harness.data_identity(one_task("aime24", write_jsonl(tmp_path / "a.jsonl", rows)))

    assert identity("1") == identity("1") != identity("2")


@pytest.mark.parametrize("function", ["check_benchmark", "prompts"])
def test_asking_for_a_benchmarks_prompts_imports_nothing_heavy(function):
    code = (
        "import sys; from r2r.evaluation import harness; from r2r.config import BenchmarkConfig\n"
        f"harness.{function}(BenchmarkConfig(name='b', tasks=['nano_code']))\n"
        "assert not {'torch', 'lm_eval', 'datasets', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
