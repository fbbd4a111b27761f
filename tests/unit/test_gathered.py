"""Several runs in one table: which rows there are, what they are called, what is claimed."""

import json

import pytest

from r2r.reporting.gathered import Run, claims, columns, correlation, gathered, table, tenths
from r2r.stages.gather import GATHERED, Gather


def system(accuracy, params_b, answers, share=0.0, **more):
    return {
        "accuracy": accuracy,
        "accuracy_stderr": 0.01,
        "accuracy_interval": [accuracy - 0.02, accuracy + 0.02],
        "n": 200,
        "llm_share": share,
        "avg_params_b": params_b,
        "avg_params_published_b": params_b,
        "cost": params_b * 60,
        "output_tokens": 60.0,
        "seconds": 1.0,
        "tokens_per_s": 100.0,
        "answers": answers,
        **more,
    }


def right(share):
    return {("t", n): float(n < 200 * share) for n in range(200)}


def run(router, accuracy, answers, overrides=(), recall=0.9):
    results = {
        "benchmark": "nano",
        "pair": "nano",
        "router": router,
        "seed": 0,
        "threshold": 0.1,
        "validation": {"recall": recall, "auroc": 0.95},
        "systems": {
            "slm": system(0.4, 1.0, "s"),
            "llm": system(0.95, 9.0, "l", share=1.0),
            "routed": system(accuracy, 2.0, answers, share=0.1),
        },
    }
    scores = {"slm": right(0.4), "llm": right(0.95), "routed": right(accuracy)}
    return Run(results, [f"router={router}", "+experiment=e", *overrides], scores)


@pytest.fixture
def routers():
    return gathered([run("mlp", 0.9, "a", recall=0.9), run("entropy", 0.6, "b", recall=0.5)])


def test_shared_answers_are_one_row_and_routers_name_theirs(routers):
    assert [row.label for row in routers] == ["SLM", "mlp", "entropy", "LLM"]
    assert [row.runs for row in routers] == [{0, 1}, {0}, {1}, {0, 1}]


def test_what_was_swept_tells_rows_of_one_name_apart():
    runs = [run("mlp", 0.9, "a", ["x.threshold=0.1"]), run("mlp", 0.8, "b", ["x.threshold=0.5"])]
    labels = {row.label for row in gathered(runs)}
    assert labels == {"SLM", "LLM", "mlp, threshold=0.1", "mlp, threshold=0.5"}


def test_rows_that_nothing_tells_apart_are_shown_once():
    one, two = run("mlp", 0.9, "a"), run("entropy", 0.6, "b")
    for number, each in enumerate((one, two)):
        each.results["systems"]["query_sw"] = system(0.5, 2.0, f"q{number}")
        each.scores["query_sw"] = right(0.5)
    (row,) = [row for row in gathered([one, two]) if row.name == "query_sw"]
    assert row.figures["answers"] == "q0"


def test_operating_points_with_the_same_answers_are_one_row_with_both_names():
    runs = [
        run("mlp", 0.9, "a", ["+point=one"]),
        run("mlp", 0.9, "a", ["+point=two"]),
        run("mlp", 0.6, "b", ["+point=three"]),
    ]
    rows = gathered(runs)
    assert {row.label for row in rows} == {
        "SLM", "LLM", "mlp, point=one = two", "mlp, point=three"
    }  # fmt: skip
    (line,) = claims(rows, [["two", "three"]], 0)
    assert line.startswith("mlp, point=one = two beats mlp, point=three by 30.0 points")


def test_claims_are_made_within_a_run_or_across_all(routers):
    assert claims(routers, [["routed", "slm"]], 0) == [
        "mlp beats SLM by 50.0 points (95%: +43.0 to +57.0)",
        "entropy beats SLM by 20.0 points (95%: +14.5 to +25.5)",
    ]
    (line,) = claims(routers, [["mlp", "entropy"]], 0)
    assert line.startswith("mlp beats entropy by 30.0 points")
    assert len(claims(routers, [["routed", "routed"]], 0)) == 1
    assert claims(routers, [["mlp", "middle"]], 0) == []


def test_only_columns_with_something_in_them(routers):
    assert "Accepted %" not in columns(routers)
    lines = table(routers).splitlines()
    assert lines[0].startswith("| System | Accuracy % (95%) | At random % | LLM % | Params |")
    assert lines[3] == (
        "| mlp | 90.0 (88.0–92.0) | 45.5 | 10.0 | 2.00B | 2.00B | 0.22x | 60 | 100 | 90.0 | 0.950 |"
    )
    assert len({line.count("|") for line in lines}) == 1


def test_correlation_of_recall_and_accuracy(routers):
    assert correlation(routers).startswith("Too few")
    many = [run(str(a), a, str(a), recall=a) for a in (0.5, 0.6, 0.7, 0.8)]
    assert "over 4 routers: 1.00" in correlation(gathered(many))


def test_tenths_of_answers_of_any_length():
    def sample(llm):
        return {"trace": {"llm": llm}}

    assert tenths([sample([1] + [0] * 19), sample([0] * 19 + [1])]) == [
        0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0.25
    ]  # fmt: skip
    assert tenths([sample([]), sample([1])]) == [1.0] + [0.0] * 9


def test_the_callback_gathers_what_the_jobs_left(tmp_path):
    from omegaconf import OmegaConf

    for job, (router, accuracy) in enumerate([("mlp", 0.9), ("entropy", 0.6)]):
        made = run(router, accuracy, router)
        folder = tmp_path / str(job)
        (folder / "samples").mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(made.results))
        (folder / "manifest.json").write_text(json.dumps({"overrides": made.overrides}))
        for name, scores in made.scores.items():
            rows = [
                {"task": t, "doc_id": d, "score": s, "trace": {"llm": [0, 1]}}
                for (t, d), s in scores.items()
            ]
            lines = "\n".join(map(json.dumps, rows))
            (folder / "samples" / f"{name}.jsonl").write_text(lines)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    Gather(claims=[["mlp", "entropy"]], tenths=True).on_multirun_end(config)
    text = (tmp_path / GATHERED).read_text()
    assert "- mlp beats entropy by 30.0 points" in text
    assert "| LLM % in tenth | 1 |" in text


def test_a_sweep_without_reports_leaves_no_table(tmp_path):
    from omegaconf import OmegaConf

    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    Gather(claims=[]).on_multirun_end(config)
    assert list(tmp_path.iterdir()) == []
