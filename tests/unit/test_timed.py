"""Speeds stand beside each other only where one run has timed them: table, page, figures, files."""

import csv
import io
from copy import deepcopy

import pytest
from finished import results as finished_results
from finished import write_run
from rich.console import Console

from r2r.reporting.charts import bars_figure
from r2r.reporting.page import PAGE, write_report
from r2r.reporting.runs import points, read_run
from r2r.reporting.tables import ELSEWHERE, results_table, rows
from r2r.reporting.timed import together, untimed

SLOW, FAST = 737.0, 4808.0


@pytest.fixture
def results():
    """A fresh router beside an LLM of an earlier run."""
    found = finished_results()
    for system in found["systems"].values():
        system |= {"tokens_per_s": FAST, "timed_in": "nano/2", "load": 0.4}
    found["systems"]["llm"] |= untimed({"run": "nano/1"}) | {"load": 7.5}
    return found


def text(table) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_the_table_leaves_out_what_another_run_has_timed(results):
    found = {row[0]: row[-1] for row in rows(results)}
    assert found["LLM"] == "*" and found["routed"] == f"{FAST:.0f}"
    shown = " ".join(text(results_table(results)).split())
    assert ELSEWHERE in shown and "load average of 0.4." in shown
    results["systems"]["llm"] |= {"tokens_per_s": SLOW}
    del results["systems"]["llm"]["timed_with"]
    shown = text(results_table(results))
    assert "*" not in shown and "load average of 0.4 to 7.5" in " ".join(shown.split())


def test_page_and_files_leave_it_out_too(results, tmp_path):
    folder = write_run(tmp_path / "nano" / "2", results)
    write_report([read_run(folder)], folder)
    page, table = (folder / PAGE).read_text(), (folder / "table.md").read_text()
    for made in (page, table):
        assert ELSEWHERE in made and "| * |" in made.replace("<td>*</td>", "| * |")
    with (folder / "table.csv").open(newline="") as file:
        told = {row["system"]: row for row in csv.DictReader(file)}
    assert told["llm"]["tokens_per_s"] == "" and told["llm"]["timed_with"] == "run=nano/1"
    assert told["routed"]["tokens_per_s"] == "4808.0" and told["routed"]["load"] == "0.4"


def test_the_figure_of_times_leaves_it_out(results, tmp_path, monkeypatch):
    drawn = []

    def kept(group, styles):
        drawn.extend(point.system for point in group)
        return bars_figure(group, styles)

    monkeypatch.setattr("r2r.reporting.charts.bars_figure", kept)
    folder = write_run(tmp_path / "nano" / "2", results)
    write_report([read_run(folder)], folder)
    assert "routed" in drawn and "llm" not in drawn


def test_a_page_over_several_runs_keeps_the_speeds_of_one(results, tmp_path):
    first, second = deepcopy(results), deepcopy(results)
    for system in first["systems"].values():
        system |= {"tokens_per_s": SLOW, "timed_in": "nano/1"}
    first["systems"] = {name: first["systems"][name] for name in ("llm", "slm")}
    second["systems"] = {name: second["systems"][name] for name in ("routed", "entropy", "mid_50%")}
    every = [
        read_run(write_run(tmp_path / "nano" / name, found))
        for name, found in (("1", first), ("2", second))
    ]
    speeds = {point.system: point.figures["tokens_per_s"] for point in points(every)}
    assert speeds == {"llm": None, "slm": None, "routed": FAST, "entropy": FAST, "mid_50%": FAST}


def test_runs_that_do_not_tell_are_each_their_own():
    timed = {"tokens_per_s": 1.0}
    figures = [timed, timed, timed, {}]
    found = together(figures, ["x", "x", "y", "z"])
    assert [each.get("tokens_per_s") for each in found] == [1.0, 1.0, None, None]
    assert found[2]["timed_with"] == {"run": "y"} and "timed_with" not in found[3]
