"""The speed comparisons in the small: each runs, and its record says what it should."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Runs a comparison over a small medium pair; its records by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pairs = importlib.import_module("pairs")
    shape = {"slm": (64, 1, 32, 2, 1, 8), "llm": (96, 2, 64, 2, 2, 16)}
    monkeypatch.setattr(pairs, "SHAPES", shape)
    monkeypatch.setattr(pairs, "VOCAB", 1024)
    monkeypatch.setattr(importlib.import_module("watch"), "READ", 1024)

    def run(name, *options, **changed):
        module = importlib.import_module(name)
        for key, value in changed.items():
            monkeypatch.setattr(module, key, value)
        given = [name, "--repeats", "1", "--results", str(tmp_path), *map(str, options)]
        monkeypatch.setattr(sys, "argv", given)
        assert module.main() == 0
        return {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}

    return run


def by_system(record):
    return {row["system"]: row for row in record["rows"]}


def told(record):
    assert {"commit", "versions", "machine", "hardware", "threads", "repeats"} <= set(record)
    return {target["what"]: target for target in record["targets"]}


def test_decode(bench):
    records = bench("decode", "--pairs", "medium", "--device", "cpu", "--batches", 1, 3,
                    "--shares", 0, 10, 100, "--tokens", 24)  # fmt: skip
    assert set(records) == {"decode_medium_1_cpu", "decode_medium_3_cpu"}
    rows = by_system(records["decode_medium_1_cpu"])
    assert list(rows) == [
        "generate slm", "ours slm", "generate llm", "ours llm",
        "assisted 0", "routed 0", "assisted 10", "routed 10", "assisted 100", "routed 100",
    ]  # fmt: skip
    assert (rows["routed 0"]["llm_share"], rows["routed 100"]["llm_share"]) == (0, 1)
    assert 0 < rows["routed 10"]["llm_share"] < 0.4
    for name, row in rows.items():
        if name.startswith(("ours", "routed")):
            shares = [row[part] for part in ("efficiency", "router", "layout", "pick", "loop")]
            assert sum(shares) == pytest.approx(1)
    targets = told(records["decode_medium_1_cpu"])
    rates = {name: row["tokens_per_s"] for name, row in rows.items()}
    assert targets["routed / ours llm"]["found"] == rates["routed 10"] / rates["ours llm"]
    assert targets["routed / assisted"]["found"] == rates["routed 10"] / rates["assisted 10"]
    assert targets["router's share"]["most"]
    rows = by_system(records["decode_medium_3_cpu"])
    assert "assisted 10" not in rows and 1 <= rows["routed 100"]["llm_rows"] <= 3


def test_decode_asks_a_pair_by_path_real_questions(bench, tmp_path, capsys):
    nano = ROOT / "src" / "r2r" / "assets" / "nano"
    own = ["--pairs", f"{nano / 'slm'},{nano / 'llm'}", "--device", "cpu", "--shares", 20]
    with pytest.raises(SystemExit):
        bench("decode", *own)
    assert "--prompts must be a JSONL file of questions" in capsys.readouterr().err
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"question": "12+30?"}\n{"question": "What is 5 plus 6, and then 7?"}\n')
    records = bench("decode", *own, "--prompts", asked, "--batches", 1, 2, "--tokens", 40)
    names = ["generate slm", "ours slm", "generate llm", "ours llm"]
    assert list(by_system(records["decode_own_1_cpu"])) == [*names, "assisted", "routed 20"]
    rows = by_system(records["decode_own_2_cpu"])
    assert list(rows) == [*names, "routed 20"]
    assert 0.05 < rows["routed 20"]["llm_share"] < 0.4
    with pytest.raises(SystemExit):
        bench("decode", *own, "--prompts", asked, "--batches", 3)
    assert "a file of 3 questions or more, got 2" in capsys.readouterr().err


def test_decode_says_that_there_is_no_gpu(bench, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        bench("decode", "--device", "cuda")
    assert "--device must be cpu on this machine, got cuda" in capsys.readouterr().err


def test_the_made_pair_routes_what_it_should(bench):
    """The LLM counts, the SLM errs on the share alone, and the router finds just that."""
    pairs = importlib.import_module("pairs")
    pair = pairs.load_pair("medium")
    pair.ours()
    pair.share(0.3)
    counted = pair.single("llm", 2, False).generate(pair.prompts(2, 30))
    routed = pair.routed(2, 4, False).generate(pair.prompts(2, 30))
    assert [[s.token for s in trace.steps] for trace in routed] == [
        [(trace.prompt[-1] + 2 * n) % 1024 for n in range(1, 31)] for trace in counted
    ]
    assert all(step.source == "llm" or step.token % 2 == 0 for t in routed for step in t.steps)
    alone = pair.single("slm", 1, False).generate(pair.prompts(1, 30))
    assert any(step.token % 2 for step in alone[0].steps)


def test_delay(bench):
    records = bench("delay", "--pair", "medium", "--device", "cpu", "--batches", 4, "--tokens", 12,
                    "--waves", 2, "--patience", 0, 64, "--share", 30)  # fmt: skip
    rows = {row["patience"]: row for row in records["delay_medium_cpu"]["rows"]}
    assert sum(row["derived"] for row in rows.values()) == 1
    assert rows[0]["llm_steps"] > rows[64]["llm_steps"] and rows[0]["rows"] < rows[64]["rows"]


def test_lengths(bench):
    records = bench("lengths", "--lengths", 8, 300, "--device", "cpu")
    rows = records["lengths_medium_cpu"]["rows"]
    # KV heads x head size x 2 bytes x keys and values x layers, for prompt and answer
    assert rows[1]["predicted_mb"] == (1 * 8 * 4 * 1 + 2 * 16 * 4 * 2) * (64 + 300) / 1e6
    assert told(records["lengths_medium_cpu"])["KV held / twice what is predicted"]["met"]


def test_router(bench):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 256, "intermediate_size": 32}
    router = importlib.import_module("router")
    rows = bench("router", "--batches", 1, 4, PAPER=([16], 2),
                 QWEN3_06B=router.QWEN3_06B | small)["router_cpu"]["rows"]  # fmt: skip
    assert [row["batch"] for row in rows] == [1, 4] * 3
    assert all(row[key] > 0 for row in rows for key in ("step", "together", "alone"))


def test_training(bench):
    records = bench("training", "--rows", 512, "--steps", 1, NETWORK=[8], BATCH=64, HIDDEN=16,
                    SHARD=256, PEER_ROWS=64)  # fmt: skip
    rows, targets = by_system(records["training_cpu"]), told(records["training_cpu"])
    assert rows["steps, bf16-mixed"]["rows_per_s"] > 0
    expected = rows["steps"]["rows_per_s"] / rows["steps, ready tensors"]["rows_per_s"]
    assert targets["steps / steps on ready tensors"]["found"] == expected


def test_memory(bench):
    training = importlib.import_module("training")
    small, large = training.held(64), training.held(2048)
    assert large["gb"] > 10 * small["gb"] and small.keys() == large.keys()


def test_labelling(bench):
    records = bench("labelling", "--pair", "medium", "--queries", 6, "--before", ROOT)
    record = records["labelling_medium_cpu"]
    targets = told(record)
    assert targets["answers labelled alike"]["met"]
    assert targets["ours / before"]["found"] > 0
    ours = by_system(record)["ours"]
    assert 0 < ours["slm"] + ours["llm"] <= 1
    assert targets["time in the LLM's forwards"]["found"] == ours["llm"]
    assert record["labels"] > 100


def test_harness_computes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    harness = importlib.import_module("harness")
    calls = []
    systems = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert harness.interleaved(systems, repeats=2) == {"a": [3, 5], "b": [4, 6]}
    assert calls == list("ababab")
    assert harness.ratio([2, 30, 4], [1, 10, 8]) == 2
    assert harness.spread([1, 2, 4]) == 1.5
    assert harness.middle([{"x": 1, "y": {"z": None}}, {"x": 3, "y": {"z": 5}}]) == {
        "x": 2, "y": {"z": 5},
    }  # fmt: skip
    assert harness.Target("", 0.9, 0.9).met and not harness.Target("", 0.9, 0.9001).met
    assert harness.Target("", 5, 6, most=True).met


def test_page_shows_the_records(monkeypatch):
    """What README.md shows is what results/ holds, and fits 80 columns."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    page = importlib.import_module("page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, page.RESULTS) == text
    shown = set(page.PLACE.findall(text))
    assert (
        shown
        and max(len(line) for block in text.split("```")[1::2] for line in block.splitlines()) <= 80
    )
    records = {path.stem for path in page.RESULTS.glob("*.json")}
    assert {name for name in records if not name.startswith("sglang")} == shown
