"""reporting: tables, plot and traces of made-up results."""

import csv
import io
from copy import deepcopy
from dataclasses import replace
from itertools import combinations

import pytest
from finished import results as finished_results
from finished import system
from matplotlib.figure import Figure
from rich.console import Console

from r2r.reporting.compare import blocks, write_tables
from r2r.reporting.pareto import pareto_figure
from r2r.reporting.runs import Run, points
from r2r.reporting.style import FORMATS, inline_svg, save
from r2r.reporting.tables import COLUMNS, params, results_table, rows, title, verdicts
from r2r.reporting.traces import COLOURS, CUT, LEGEND, colored, marked, write_traces


@pytest.fixture
def results():
    return finished_results()


@pytest.fixture
def run(results):
    return Run("made up", None, results)


def test_rows_hold_the_figures_cheapest_first(results):
    found = {row[0]: row[1:] for row in rows(results)}
    assert list(found) == ["SLM", "entropy", "routed", "mid_50%", "LLM"]
    assert found["routed"] == ("90.1 (86.7–93.4)", "18.2", "360K", "0.24x", "90", "7", "2160")
    assert found["LLM"] == ("95.3 (91.9–98.6)", "100.0", "1.50M", "1.00x", "90", "7", "2160")


def test_cost_is_left_out_without_the_llm(results):
    del results["systems"]["llm"]
    assert {row[4] for row in rows(results)} == {"-"}


def test_title_names_the_router_only_where_it_routed(results):
    assert title(results) == "nano on nano_all (300 problems), mlp router at threshold 0.1"
    del results["systems"]["routed"]
    assert title(results | {"threshold": None}) == "nano on nano_all (300 problems)"


@pytest.mark.parametrize(
    ("billions", "text"),
    [
        (7.18e-5, "71.8K"),
        (0.00099996, "1.00M"),
        (0.0015, "1.50M"),
        (0.1354, "135M"),
        (5.6, "5.60B"),
        (235.0, "235B"),
        (5e-8, "50"),
        (0.0, "0"),
    ],
)
def test_params_choose_their_unit(billions, text):
    assert params(billions) == text


def test_terminal_table_fits_80_columns(results):
    results["systems"]["speculative"] = system(1.0, 0.5, 1e-3) | {"accuracy_interval": [1, 1]}
    results["systems"]["routed"] |= {"output_tokens": 32768.0, "tokens_per_s": 123456.7}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results_table(results))
    lines = console.export_text().splitlines()
    assert max(map(len, map(str.rstrip, lines))) <= 80
    assert all(column in lines[2] for column in COLUMNS)
    assert any("100.0 (100.0–100.0)" in line for line in lines)


def test_many_answers_cut_by_their_length_are_told_beside_every_table(run, results, tmp_path):
    results["systems"]["llm"] |= {"cut_answers": 31, "cut_share": 31 / 300}
    warning = "warning: 10% of the answers of LLM were cut by their length, and count by what they"
    assert results_table(results).caption.count("warning") == 1
    assert warning in results_table(results).caption
    write_tables([run], points([run]), tmp_path)
    assert (tmp_path / "table.md").read_text().count(warning) == 1
    results["systems"]["llm"] |= {"cut_answers": 30, "cut_share": 30 / 300}
    assert "warning" not in results_table(results).caption


def test_results_of_before_cut_answers_were_counted_have_a_dash(results):
    del results["systems"]["slm"]["cut_answers"], results["systems"]["slm"]["cut_share"]
    assert [row[-2] for row in rows(results)] == ["-", "7", "7", "7", "7"]


def test_verdicts_follow_the_table(results):
    said = "routed is below LLM by 5.0 points (95%: -8.0 to -3.0)"
    assert verdicts(results) == [said]
    assert results_table(results).caption.endswith(said)


def test_markdown_and_latex_hold_every_row_as_it_is(run, tmp_path):
    run.results["systems"]["a|b_50%"] = system(0.5, 0.5, 1e-3)
    write_tables([run], points([run]), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| a\\|b_50% | 50.0 (46.6–53.3) | 50.0 | 1.00M |" in text
    assert (
        "| mlp @ 0.1 | 90.1 (86.7–93.4) | 18.2 | 360K | 330K | 0.24x | 90 | 7 | 2160"
        " | - | - | - | - | - | here |" in text
    )
    assert "The paper" not in text  # has no such benchmark
    assert "- mlp @ 0.1 is below LLM by 5.0 points (95%: -8.0 to -3.0)" in text
    tex = (tmp_path / "table.tex").read_text()
    assert r"nano on nano\_all" in tex
    assert r"mid\_50\% & 79.0 (75.6--82.3) & 100.0" in tex
    assert tex.count(r"\\") == 1 + 6
    assert "–" not in tex


def test_csv_has_the_names_of_results_json(run, tmp_path):
    write_tables([run], points([run]), tmp_path)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert float(rows["routed"]["llm_share"]) == 0.182
    assert (rows["routed"]["router"], rows["routed"]["threshold"]) == ("mlp", "0.1")
    assert set(run.results["systems"]["slm"]) - {"accuracy_interval"} <= set(rows["slm"])


def test_a_benchmark_of_the_paper_brings_its_numbers(run, tmp_path):
    run.results["benchmark"] = "aime"
    titles = [block.title for block in blocks(points([run]))]
    assert titles == ["nano on aime (300 problems)", "The paper, aime"]
    write_tables([run], points([run]), tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert (
        "| R2R (1.5B+32B) | 55 | - | - | 5.80B | - | - | - | - | - | - | - | - | - | [D] |" in text
    )


def test_all_benchmarks_of_the_paper_bring_its_average(run):
    runs = [
        replace(run, results=run.results | {"benchmark": name})
        for name in ("aime", "livecodebench", "gpqa_diamond")
    ]
    titles = [block.title for block in blocks(points(runs))]
    assert "The paper, average of its three benchmarks" in titles and len(titles) == 3 + 4


def test_labels_do_not_overlap_and_stay_inside(run):
    run.results["systems"] |= {
        name: system(0.9 + i / 500, 0.2, 0.36e-3 + i * 1e-5)
        for i, name in enumerate(["query_sw", "query_mlp", "speculative"])
    }
    (axes,) = pareto_figure(points([run])).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(run.results["systems"])
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(axes.bbox.count_contains(box.corners()) == 4 for box in boxes)


def test_plot_follows_the_accounting(run):
    run.results["systems"]["speculative"] = system(0.95, 0.5, 0.4e-3, 0.35e-3)

    def labels(accounting):
        figure = pareto_figure(points([run]), accounting)
        return {text.get_text() for text in figure.axes[0].texts}

    assert "speculative\n400K" in labels("inclusive")
    assert "speculative\n350K" in labels("published")


def test_plots_against_forwards_and_time_show_who_has_them(run):
    worked = {"slm": 0.0, "llm": 1.0, "routed": 0.182, "mid": 1.0}
    run.results["systems"]["mid"] = system(0.7, 1.0, 0.4e-3)  # what it counts as, never the LLM's
    for name, forwards in worked.items():
        run.results["systems"][name]["llm_forwards_per_token"] = forwards
    run.results["systems"]["entropy"]["tokens_per_s"] = None

    def shown(accounting):
        (axes,) = pareto_figure(points([run]), accounting).axes
        return axes, [text.get_text() for text in axes.texts]

    axes, texts = shown("forwards")
    assert axes.get_xlabel() == "LLM forwards per token (%)"
    assert {"SLM\n0.0%", "LLM\n100.0%"} < set(texts) and len(texts) == 3
    axes, texts = shown("time")
    assert "SLM\n0.46 ms" in texts and not any(text.startswith("entropy") for text in texts)


def test_operating_points_of_a_policy_are_one_line(run):
    def at(name):
        return replace(
            run, name=name, results=deepcopy(run.results),
            manifest={"overrides": [f"+point={name}"]},
        )  # fmt: skip

    runs = [at("low"), at("high"), at("only")]
    runs[1].results["systems"]["routed"]["avg_params_b"] = 0.3e-3
    runs[2].results.update(policy="lossy", threshold=None)
    for made, share in zip(runs, (0.2, 0.3, 0.4), strict=True):
        made.results["systems"]["query_knn"] = system(0.6 + share, share, 0.4e-3)
    (axes,) = pareto_figure(points(runs)).axes
    texts = [text.get_text() for text in axes.texts]
    assert {"low", "high"} < set(texts) and texts.count("query_knn") == 1
    assert not any("point=" in text for text in texts)
    _, labels = axes.get_legend_handles_labels()
    assert labels.count("mlp") == 1 and not any("point=" in label for label in labels)


def test_both_legends_tell_of_cut_tokens():
    assert CUT in LEGEND and CUT in COLOURS.plain


@pytest.fixture
def row():
    return {
        "question": "What is 3 + 4?",
        "gold": "7",
        "correct": True,
        "system": "routed",
        "pieces": ["So", " 3", "+", "4", "=", "7", "."],
        "llm": [0, 1, 1, 1, 0, 1, 0],
        "scores": [0.0, 0.9, 0.8, 0.7, 0.1, 0.6, 0.0],
        "drafts": [None, " 2", "+", None, None, "\n", None],
    }


def test_marked_shows_writer_and_rejected_token(row):
    assert marked(row) == "So【 3⟵ 2】【+4】=【7⟵⏎】."


def test_colored_highlights_only_what_the_llm_wrote(row):
    text = colored(row)
    lit = [text.plain[s.start : s.end] for s in text.spans if "yellow" in str(s.style)]
    struck = [text.plain[s.start : s.end] for s in text.spans if "strike" in str(s.style)]
    assert lit == [" 3", "+4", "7"]
    assert struck == [" 2", "⏎"]


def test_columns_of_different_length_are_an_error(row):
    row["llm"].pop()
    with pytest.raises(ValueError, match="shorter"):
        marked(row)


def test_traces_file(row, tmp_path):
    empty = row | {"pieces": [], "llm": [], "scores": [], "drafts": [], "correct": False}
    fences = row | {"question": "Say ```` twice"}
    write_traces([row, empty, fences], tmp_path / "traces.md")
    text = (tmp_path / "traces.md").read_text()
    assert text.count("\n## ") == 3
    assert "**routed**: correct (gold: `7`), 7 tokens, 57% by the LLM" in text
    assert "**routed**: wrong (gold: `7`), 0 tokens, none by the LLM" in text
    assert "`````text\nSay ```` twice\n`````" in text
    assert marked(row) in text


def test_each_format_of_a_figure_draws_it_once(run, tmp_path, monkeypatch):
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda made, by: [drawn.append(by), draw(made, by)][1])
    made = pareto_figure(points([run]))
    save(made, tmp_path, "pareto")
    inline_svg(made, "pareto", "what it shows")
    assert len(drawn) == len(FORMATS) + 1
