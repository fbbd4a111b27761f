"""What a page says first."""

import json

import pytest
from finished import results, system, write_run

from r2r.reporting.runs import points, read_run
from r2r.reporting.summary import about, by_task, method, verdict


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run" / "time", results())
    told = {
        "command": ["run.py", "threshold=0.1"],
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"cpus": 2, "platform": "Linux"},
        "overrides": ["threshold=0.1"],
    }
    (folder / "manifest.json").write_text(json.dumps(told))
    return read_run(folder)


def another(run, accuracy, params_b, interval, threshold):
    found = results() | {"threshold": threshold}
    found["systems"]["routed"] = system(accuracy, 0.1, params_b)
    found["differences"][0] |= {"difference": sum(interval) / 2, "interval": list(interval)}
    return type(run)(f"run/{threshold}", None, found)


def test_the_verdict_is_of_the_cheapest_run_that_is_not_shown_to_be_worse(run):
    said = verdict([run])
    assert said.startswith("mlp @ 0.1 answers 90.1% right, 5.0 points below the LLM (95%: -8.0 to")
    assert said.endswith("with 18.2% of its tokens by the LLM and 360K activated params a token,"
                         " the LLM's are 1.50M.")  # fmt: skip
    level = another(run, 0.94, 0.6e-3, (-0.03, 0.01), 0.05)
    dearer = another(run, 0.95, 0.9e-3, (-0.02, 0.02), 0.01)
    assert verdict([run, dearer, level]).startswith("mlp @ 0.05 answers 94.0% right, no difference")
    better = another(run, 0.97, 0.5e-3, (0.01, 0.03), 0.2)
    assert "2.0 points above the LLM" in verdict([run, level, better])


def test_a_page_over_another_policy_says_so(run):
    assert "whose score reaches the threshold" in method([run])
    run.results["policy"] = "check"
    assert verdict([run]).startswith("check (mlp) @ 0.1 answers")
    assert "the policy (check) says who writes what" in method([run])


def test_without_a_comparison_there_is_no_verdict(run):
    run.results["differences"] = []
    assert verdict([run]) == ""


def test_where_figures_come_from(run):
    assert about(run) == [
        ("Command", "python run.py threshold=0.1"), ("Threshold", "0.1"), ("Seed", "0"),
        ("Commit", "abc"), ("Machine", "2 CPUs, Linux"), ("Date", "2026-01-01"),
    ]  # fmt: skip


def test_accuracy_by_task(run):
    assert by_task(points([run])) == ([], [])
    run.results["systems"]["slm"]["tasks"] = {
        "math": {"accuracy": 0.5, "n": 100}, "qa": {"accuracy": 1.0, "n": 1200}
    }  # fmt: skip
    tasks, rows = by_task(points([run]))
    assert tasks == ["math", "qa"]
    assert rows[0] == ("SLM", ["50.0 (100)", "100.0 (1,200)"])
    assert rows[-1] == ("LLM", ["-", "-"])
