"""reporting: runs found and read back, the page over them, as text and in a browser."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from finished import results, system, write_run
from matplotlib.image import imread

from r2r.errors import ConfigError
from r2r.reporting.charts import PARTS, along_answer, threshold_figure
from r2r.reporting.page import write_report
from r2r.reporting.runs import exported, find_runs, points, read_run, what_differs
from r2r.reporting.style import figure, lay_out, legend_below

NASTY = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='x'\">"
FIGURES = {
    "pareto",
    "pareto_time",
    "costs",
    "llm_share",
    "thresholds",
    "scores",
    "quality",
    "training",
}
BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "outputs" / "nano_mlp" / "2026-01-01_00-00-00", results())


def test_runs_are_found_below_folders_and_by_globs_each_once(run, tmp_path):
    other = results() | {"threshold": 0.5}
    write_run(tmp_path / "outputs" / "sweep" / "2026-01-02_00-00-00" / "0", other)
    write_run(tmp_path / "outputs" / "artifacts" / "x", results())
    outputs = tmp_path / "outputs"
    names = [found.name for found in find_runs([str(outputs), str(run), f"{outputs}/nano_*"])]
    assert names == ["nano_mlp/2026-01-01_00-00-00", "sweep/2026-01-02_00-00-00/0"]


def test_a_pattern_without_runs_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"report\.runs must be .*'.*/nowhere'"):
        find_runs([str(tmp_path / "nowhere")])


def test_a_system_measured_by_many_runs_is_one_point(run, tmp_path):
    other = results() | {"threshold": 0.5}
    other["systems"]["routed"] = system(0.8, 0.1, 0.2e-3)
    again = write_run(tmp_path / "outputs" / "nano_mlp" / "2026-01-02_00-00-00", other)
    labels = [point.label for point in points([read_run(run), read_run(again)])]
    assert labels == ["slm", "mlp @ 0.5", "entropy", "mlp @ 0.1", "mid_50%", "llm"]


def test_what_nothing_tells_of_one_run_is_no_difference_of_the_others(run, tmp_path):
    given = ["benchmark.limit=30", "benchmark.max_new_tokens=64"]
    told = replace(read_run(run), manifest={"overrides": given})
    another = replace(told, manifest={"overrides": given[:1]})
    exports = replace(told, folder=None, manifest={})
    assert [p.label for p in points([told, exports]) if p.system == "routed"] == ["mlp @ 0.1"]
    shared = what_differs([each.overrides for each in (told, another, exports)])
    assert shared == ["max_new_tokens=64", "", ""]


def test_what_all_runs_of_a_router_share_is_not_in_their_names(run):
    told = read_run(run)

    def made(router, threshold, *overrides):
        results = told.results | {"router": router, "threshold": threshold}
        return replace(told, results=results, manifest={"overrides": list(overrides)})

    runs = [made("mlp", 0.1, "labeler=judge"), made("mlp", 0.5, "labeler=judge"), made("probe", 1)]
    labels = {point.label for point in points(runs) if point.system == "routed"}
    assert labels == {"mlp @ 0.1", "mlp @ 0.5", "probe @ 1"}
    runs.append(made("mlp", 0.1, "labeler=likelihood"))
    assert "mlp, labeler=judge @ 0.5" in {point.label for point in points(runs)}


def test_training_rows_of_an_epoch_are_joined(run):
    first, last = read_run(run).training
    assert (first["train/loss"], first["val/loss"], last["val/average_precision"]) == (
        0.6,
        0.5,
        0.5,
    )


def test_wandbs_export_gives_the_same_points(run, tmp_path):
    found = results()
    row = {f"run/{name}": found[name] for name in ("pair", "benchmark", "router", "threshold")}
    row |= {"Name": "mlp/0", "val/loss": 0.2, "run/seed": 0}
    for name, figures in found["systems"].items():
        row |= {f"{name}/{key}": v for key, v in figures.items() if not isinstance(v, list)}
    path = tmp_path / "export.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    ours, theirs = points([read_run(run)]), points(exported(path))
    assert [(p.label, p.figures["cost"]) for p in ours] == [
        (p.label, p.figures["cost"]) for p in theirs
    ]
    assert find_runs([str(path)])[0].name == "export/mlp/0"
    write_report(find_runs([str(path)]), tmp_path / "page")
    path.write_text("Name,loss\na,1\n")
    with pytest.raises(ConfigError, match=r"report\.runs must be a W&B export"):
        exported(path)


def test_llm_share_along_the_answer():
    shares = along_answer([[1] * 20 + [0] * 20, [0] * 60, []])
    assert shares.shape == (PARTS,)
    assert shares[0] == pytest.approx(2 / 5) and shares[-1] == 0
    assert np.isnan(along_answer([[1]])[1:]).all()


def test_the_report_is_whole_and_needs_nothing_else(run, tmp_path):
    write_report([read_run(run)], tmp_path / "page")
    files = {path.name for path in (tmp_path / "page").iterdir()}
    assert files == {"report.html", "table.md", "table.tex", "table.csv", "figures"}
    figures = tmp_path / "page" / "figures"
    assert {p.name for p in figures.iterdir()} == {
        f"{n}.{e}" for n in FIGURES for e in ("png", "pdf")
    }
    height, width, _ = imread(figures / "pareto.png").shape
    assert width > height > 400
    html = (tmp_path / "page" / "report.html").read_text()
    assert "mlp @ 0.1 is below LLM by 5.0 points" in html
    assert html.count("<svg ") == len(FIGURES)
    assert "http://" not in html.replace("http://www.w3.org", "") and "<script src" not in html
    ids = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_routers_of_one_name_have_figures_of_their_own(run, tmp_path):
    other = results() | {"router_id": "def"}
    other["systems"]["routed"] = system(0.8, 0.1, 0.2e-3)
    again = write_run(tmp_path / "outputs" / "nano_mlp" / "2026-01-02_00-00-00", other)
    for folder, size in ((run, 32), (again, 64)):
        own = ["threshold=0.1", f"router.hidden_dims=[{size}]"]
        (folder / "manifest.json").write_text(json.dumps({"overrides": own}))
    runs = [read_run(run), read_run(again)]
    labels = {point.series for point in points(runs) if point.system == "routed"}
    assert labels == {"mlp, hidden_dims=[32]", "mlp, hidden_dims=[64]"}
    write_report(runs, tmp_path / "page")
    names = {path.stem for path in (tmp_path / "page" / "figures").iterdir()}
    assert names >= {f"thresholds_mlp_hidden_dims_{size}_" for size in (32, 64)}


@pytest.mark.parametrize("words", [1, 4, 12])
def test_a_legend_is_never_wider_than_its_figure(words):
    made, (axes,) = figure()
    for name in ("one", "other"):
        told = [f"labeler.option_{n}=a_value" for n in range(words)]
        axes.plot([0, 1], label=f"{name}, {', '.join(told)}")
    legend_below(made)
    lay_out(made)
    (legend,) = made.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= made.bbox.width
    shown = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert len(shown) == 2 and all(text.endswith("a_value") for text in shown)


def test_how_labels_were_made_beside_their_content_names_no_router(run, tmp_path):
    again = write_run(tmp_path / "outputs" / "b" / "1", results() | {"threshold": 0.5})
    for folder, many in ((run, 8), (again, 64)):
        own = ["router=mlp", f"labeler.in_flight={many}", "force=true"][: 3 if many > 8 else 2]
        (folder / "manifest.json").write_text(json.dumps({"overrides": own}))
    found = [p.series for p in points([read_run(run), read_run(again)]) if p.system == "routed"]
    assert set(found) == {"mlp"}


def test_beside_replayed_thresholds_stand_runs_that_routed_so(run, tmp_path, monkeypatch):
    """Of one router, what policies did with it beside the paper's is no measure of the replay."""
    told = results() | {"policy": "check", "threshold": 0.7}
    checked = write_run(tmp_path / "outputs" / "nano_check" / "2026-01-02_00-00-00", told)
    found = {}

    def drawn(calibration, measured):
        found[calibration["router"]] = [(p.label, p.threshold) for p in measured]
        return threshold_figure(calibration, measured)

    monkeypatch.setattr("r2r.reporting.charts.threshold_figure", drawn)
    write_report([read_run(checked), read_run(run)], tmp_path / "page")
    assert found == {"mlp": [("mlp @ 0.1", 0.1)]}
    write_report([read_run(checked)], tmp_path / "alone")
    assert found == {"mlp": []}


def test_what_a_model_wrote_is_never_markup(run, tmp_path):
    nasty = results() | {"pair": NASTY}
    evil = write_run(tmp_path / "evil" / "run", nasty, NASTY)
    write_report([read_run(evil)], tmp_path / "page")
    html = (tmp_path / "page" / "report.html").read_text()
    assert "<script>document" not in html and "<img" not in html
    body = html.split('id="data">')[1].split("</script>")[0]
    assert json.loads(body)[0]["question"] == NASTY


def test_no_name_in_a_runs_files_leads_out_of_the_report(run, tmp_path):
    elsewhere = results() | {"pair": "../../pair", "router": "../../router", "router_id": "x"}
    elsewhere["systems"]["../../../outside"] = elsewhere["systems"]["routed"]
    outside = write_run(tmp_path / "others" / "run", elsewhere)
    secret = outside.parents[1] / "outside.jsonl"
    secret.write_text("not to be read")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    page = tmp_path / "deep" / "in" / "page"
    write_report([read_run(run), read_run(outside)], page)
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert written and all(page in path.parents for path in written)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser_the_page_draws_traces_without_an_error(tmp_path, width):
    evil = write_run(tmp_path / "evil" / "run", results(), NASTY)
    write_report([read_run(evil)], tmp_path / "page")
    page = tmp_path / "page" / "report.html"
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    drawn = done.stdout
    assert "<title>nano on nano_all</title>" in drawn
    assert drawn.count('class="text answer"') == 2  # SLM and routed side by side
    assert 'class="t llm replaced" tabindex="0" role="note"' in drawn
    assert "<img" not in drawn


def test_a_report_reads_no_model():
    code = "import r2r.reporting.page, sys; print(*{'torch', 'wandb'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
