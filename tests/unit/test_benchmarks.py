"""Every shipped benchmark: its files in its authors' format, its prompt, its answers."""

from pathlib import Path

import benchmark_files
import pytest
from benchmark_files import PASSWORD, archive, as_csv, case, gpqa_row, jsonl, packed, parquet
from test_adapter import NANO, Scripted, model
from test_tasks import SHARED
from transformers import AutoTokenizer

from r2r.config import BenchmarkConfig
from r2r.errors import ConfigError
from r2r.evaluation import harness, sources
from r2r.stages.compose import compose

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "benchmark").glob("*.yaml"))
JUDGE = ["benchmark.judge.url=http://127.0.0.1:9/v1", "benchmark.judge.model=j"]


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.setenv("GPQA_PASSWORD", PASSWORD)


def one(task, path, **options):
    key = options.pop("key", task)
    return BenchmarkConfig(name="b", tasks=[task], data_files={key: str(path)}, **options)


def answered(benchmark, text, **options):
    """The samples of a benchmark whose every answer is ``text``."""
    lm = model(Scripted(AutoTokenizer.from_pretrained(NANO), f"</think>{text}"))
    return harness.evaluate(lm, benchmark, **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_composes_and_its_tasks_load(name, tmp_path):
    made = benchmark_files.write(tmp_path)
    benchmark = compose([f"benchmark={name}", *(JUDGE if name == "arena_hard" else [])])[
        0
    ].benchmark
    assert benchmark.name == name and harness.data_identity(benchmark)
    keys = [key for key in benchmark.data_files if key in made]
    benchmark.data_files |= {key: made[key] for key in keys}
    for split, tasks in (("test", benchmark.tasks), ("train", benchmark.train_tasks)):
        if tasks and tasks != ["bespoke_stratos"]:
            loaded = harness.load_tasks(benchmark, split)
            assert list(loaded) == tasks
            told = {
                (task, doc["id"], by.doc_to_text(doc))
                for task, by in loaded.items()
                for doc in by.eval_docs
            }
            assert {tuple(each) for each in harness.asked(benchmark, split)} == told
    assert (benchmark.temperature, benchmark.repeats) == (0, 1)
    assert benchmark.max_new_tokens == (160 if name == "nano" else 32768)
    if benchmark.train_tasks:
        asked = [question for _, question in harness.prompts(benchmark)]
        assert asked == ["Y1983?", "Write f.", "Y2022?"]


def test_prompts_for_labelling_alone(tmp_path):
    benchmark = compose(["benchmark=bespoke_stratos"])[0].benchmark
    benchmark.data_files = benchmark_files.write(tmp_path, "bespoke_stratos_train")
    assert harness.prompts(benchmark) == [("bespoke_stratos-train-0", "Write f.")]
    with pytest.raises(ConfigError, match="bespoke_stratos has no test split"):
        harness.load_tasks(benchmark, "test")


GPQA = """\
Answer the following multiple choice question. The last line of your response should be of the \
following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by \
step before answering.

{question}

A) {0}
B) {1}
C) {2}
D) {3}"""


@pytest.mark.parametrize(
    ("task", "answer", "question"),
    [
        ("aime23", r"\boxed{73}", "Y2023?"),
        ("aime24", r"\boxed{33}", "P"),
        ("aime25", r"\boxed{70}", "P"),
        (
            "math500",
            r"\boxed{(3, \pi)}",
            "P\nPlease reason step by step, and put your final answer within \\boxed{}.",
        ),
        ("mmlu_redux_philosophy", "Answer: C", GPQA.format(*"abcd", question="Who?")),
        (
            "humaneval",
            "```python\ndef f(x):\n    return x**2\n```",
            "Complete the following Python function. Put the whole function into one code block."
            '\n\n```python\ndef f(x):\n    """Square."""\n```',
        ),
        (
            "livecodebench",
            "```python\nprint(2*int(input()))\n```",
            "You will be given a question (problem specification) and will generate a correct "
            "Python program that matches the specification and passes all tests.\n\n"
            "Question: Double it.\n\n"
            "Read the inputs from stdin solve the problem and write the answer to stdout (do not "
            "directly test on the sample inputs). Enclose your code within delimiters as follows."
            "```python\n# YOUR CODE HERE\n```\n\n",
        ),
    ],
)
def test_one_problem_from_the_file_to_the_score(tmp_path, task, answer, question):
    benchmark = one(task, benchmark_files.write(tmp_path, task)[task], repeats=2)
    (first, again) = answered(benchmark, answer)["samples"]
    assert (first["question"], first["correct"], again["correct"]) == (question, True, True)
    assert answered(benchmark, "Answer: A \\boxed{1} ```python\n```")["accuracy"] == 0


def test_a_function_to_write_is_asked_for_with_its_starter_code(tmp_path):
    row = benchmark_files.livecode_row(
        [case("[1, 2]\n3", "6", "functional")],
        [case("[]\n0", "0", "functional")],
        starter_code="class Solution:\n    def total(self, xs: List[int], y: int):\n        ",
        metadata='{"func_name": "total"}',
    )
    (tmp_path / "l.jsonl").write_bytes(jsonl(row))
    starter = row["starter_code"]
    (sample,) = answered(
        one("livecodebench", tmp_path / "l.jsonl"), f"```python\n{starter}return sum(xs) + y\n```"
    )["samples"]
    assert sample["question"].endswith(f"within delimiters.```python\n{starter}\n```\n\n")
    assert sample["correct"]


# GPQA


def test_options_stand_in_an_order_of_the_question_alone(tmp_path):
    rows = [gpqa_row(n) for n in range(40)]
    for name, some in (("a.csv", rows), ("b.csv", rows[::-1])):
        (tmp_path / name).write_bytes(as_csv(*some))
    found, other = (
        sources.problems("gpqa_diamond", "test", {"gpqa_diamond": str(tmp_path / name)})
        for name in ("a.csv", "b.csv")
    )
    assert found == other[::-1]
    letters = [problem["answer"] for problem in found]
    assert min(letters.count(letter) for letter in "ABCD") >= 4
    assert letters[:8] == list("AAADDACC")  # on every machine
    first = found[0]
    assert first["id"] == "rec0" and first["options"]["ABCD".index(letters[0])] == "right of 0"


def test_the_authors_archive_is_read_with_its_password(tmp_path, monkeypatch):
    path = benchmark_files.write(tmp_path, "gpqa_diamond")["gpqa_diamond"]
    benchmark = one("gpqa_diamond", path)
    gold = [p["answer"] for p in sources.problems("gpqa_diamond", "test", benchmark.data_files)]
    samples = answered(benchmark, f"Answer: {gold[0]}")["samples"]
    assert [row["gold"] for row in samples] == gold
    assert [row["correct"] for row in samples] == [True, gold[0] == gold[1]]
    for wrong in ("sesame", "", "Open sesame"):
        monkeypatch.setenv("GPQA_PASSWORD", wrong)
        with pytest.raises(ConfigError, match=r"GPQA_PASSWORD") as refused:
            harness.check_benchmark(benchmark)
        assert "\n" not in str(refused.value)


def test_an_archive_without_a_password_and_one_without_the_file(tmp_path):
    csv = as_csv(gpqa_row(1))
    (tmp_path / "open.zip").write_bytes(archive("gpqa_diamond.csv", csv, password=None))
    harness.check_benchmark(one("gpqa_diamond", tmp_path / "open.zip"))
    with pytest.raises(ConfigError, match=r"open.zip: no gpqa_extended.csv in the archive"):
        harness.check_benchmark(one("gpqa_extended", tmp_path / "open.zip"))


# The public files


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
def test_the_validation_and_training_years_of_aime():
    path = str(SHARED / "aime_1983_2023" / "aime_1983_2023_rllm.json")
    assert len(sources.problems("aime23", "test", {"aime23": path})) == 30
    assert len(sources.problems("aime23", "train", {"aime23_train": path})) == 945


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
def test_all_of_humaneval_is_read():
    path = str(SHARED / "humaneval" / "HumanEval.jsonl.gz")
    found = sources.problems("humaneval", "test", {"humaneval": path})
    assert len(found) == 164 and found[0]["id"] == "HumanEval/0"


# Mistakes


class Loud:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("aime24", "a.txt", b"{}", r"must be a \.jsonl, .* or \.zip file, got '.*a\.txt'"),
        ("aime24", "a.json", b"{", r"a\.json: cannot be read as \.json: "),
        ("aime24", "a.json", b'{"problem": "P"}', "must be a list of JSON objects"),
        ("aime24", "a.json", b"\xff\xfe", r"cannot be read as \.json: "),
        ("aime24", "a.parquet", b"PAR1", r"cannot be read as \.parquet: "),
        ("aime24", "a.csv", b'problem,answer\n"P,1\n', r"cannot be read as \.csv: "),
        ("aime24", "a.csv", b"problem,answer\nP\n", "more or fewer fields than the header"),
        ("aime24", "a.zip", b"PK", r"must be a \.jsonl"),
        ("aime24", "a.jsonl.gz", b"no gzip", "a readable JSONL file"),
        ("aime23", "a.json", b'[{"question": "Q", "answer": "1"}]', "must have a field year"),
        ("aime23", "a.csv", b"Year,Question,Answer\nMMXX,Q,1\n", "row 1 is not as task aime23"),
        ("gpqa_diamond", "a.zip", b"PK", r"a\.zip: cannot be unpacked"),
        ("gpqa_diamond", "a.csv", b"Question\nQ\n", "row 1 must have a field correct_answer"),
        ("humaneval", "a.jsonl", jsonl({"prompt": "P"}), "field canonical_solution, got prompt"),
        (
            "mmlu_redux_philosophy",
            "a.jsonl",
            jsonl({"question": "Q", "choices": ["a"], "answer": 0, "error_type": "ok"}),
            "four choices",
        ),
        (
            "livecodebench",
            "a.jsonl",
            jsonl(benchmark_files.livecode_row([], [])),
            "tests must be a list",
        ),
        (
            "livecodebench",
            "a.jsonl",
            jsonl(benchmark_files.livecode_row([case("", "")], [], private_test_cases="%")),
            "its tests or metadata cannot be read",
        ),
        (
            "livecodebench",
            "a.jsonl",
            jsonl(benchmark_files.livecode_row([case("", "")], []) | {"metadata": "{"}),
            "its tests or metadata cannot be read",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, task, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        harness.check_benchmark(one(task, tmp_path / name))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"benchmark.data_files.{task}")


def test_a_pickle_of_more_than_a_text_is_refused_and_not_run(tmp_path, capfd):
    import pickle

    for content in (Loud(), ["[]"], "[]" * 2, 7):
        row = benchmark_files.livecode_row([case("", "")], [])
        row["private_test_cases"] = packed([], dumps=lambda _, c=content: pickle.dumps(c))
        (tmp_path / "a.jsonl").write_bytes(jsonl(row))
        with pytest.raises(ConfigError, match="its tests or metadata cannot be read"):
            harness.check_benchmark(one("livecodebench", tmp_path / "a.jsonl"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("task", ["gpqa_diamond", "livecodebench"])
def test_without_the_hub_the_local_file_is_named(task, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("Gated dataset.\nLog in.")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    wanted = rf"from the hub: set benchmark.data_files.{task} to a local file \(Gated dataset. Log"
    with pytest.raises(ConfigError, match=wanted):
        sources.problems(task, "test", {})


def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    offline = []

    def load(*arguments, **options):
        offline.append(constants.HF_HUB_OFFLINE)
        raise ConnectionError("not in the cache")

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(ConfigError, match="from the hub"):
        sources.problems("math500", "test", {})
    assert offline == [True] and not constants.HF_HUB_OFFLINE


def test_files_of_the_hub_are_read_like_local_ones(tmp_path, monkeypatch):
    made = benchmark_files.write(tmp_path, "livecodebench")["livecodebench"]
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **options: made)
    assert len(sources.problems("livecodebench", "test", {})) == 3  # one of each of three files


def test_unknown_training_tasks_and_their_files_are_named():
    benchmark = BenchmarkConfig(name="b", tasks=["aime24"], train_tasks=["aime"])
    with pytest.raises(
        ConfigError, match=r"benchmark\.train_tasks must be known tasks, got 'aime'"
    ):
        harness.check_benchmark(benchmark)
    benchmark = BenchmarkConfig(name="b", tasks=["aime24"], data_files={"arena_hard": "x"})
    with pytest.raises(ConfigError, match=r"keys of the benchmark's tasks, got 'arena_hard'"):
        harness.check_benchmark(benchmark)


def test_parquet_and_jsonl_hold_the_same(tmp_path):
    row = {"id": "7", "problem": "P", "answer": "33"}
    (tmp_path / "a.parquet").write_bytes(parquet(row))
    (tmp_path / "a.jsonl").write_bytes(jsonl(row))
    found = [
        sources.problems("aime24", "test", {"aime24": str(tmp_path / name)})
        for name in ("a.parquet", "a.jsonl")
    ]
    assert found[0] == found[1] == [{"id": "7", "question": "P", "answer": "33"}]


def test_private_tests_may_be_plain_json(tmp_path):
    row = benchmark_files.livecode_row([case("1", "2")], [], private_test_cases="[]")
    (tmp_path / "a.jsonl").write_bytes(jsonl(row))
    harness.check_benchmark(one("livecodebench", tmp_path / "a.jsonl"))
