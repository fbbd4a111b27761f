"""The documentation: its commands compose or run, its error texts are the code's."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from r2r.stages.compose import compose

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
MINE = ("concepts", "configure", "own-pair", "sweep", "extend", "faq")
NEEDS = re.compile(
    r"#.*\bneeds (a GPU|a cluster|Slurm|an account|W&B's server|the network"
    r"|(labels|a router) made elsewhere)"
)
HYDRA_FLAGS = ("-m", "--help", "--cfg")
SMALL = ["labeler.prompts.limit=120", "benchmark.limit=4", "trainer.max_epochs=2"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands() -> list[tuple[str, str]]:
    return [
        (page.stem, line.strip())
        for page in DOCS
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.strip() and not NEEDS.search(line)
    ]


COMMANDS = commands()


def overrides(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    assert words[:2] == ["python", "run.py"], f"no test knows how to run this: {command}"
    return words[2:]


def test_every_page_is_there():
    assert {page.stem for page in DOCS} >= set(MINE)
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[c for _, c in COMMANDS])
def test_every_command_composes(page, command):
    given = [part for part in overrides(command) if part not in (*HYDRA_FLAGS, "job")]
    for part in given:  # a sweep: its first values
        assert "=" in part
    first = [re.sub(r"^([\w.]+)=([^\[,']+),.*", r"\1=\2", part) for part in given]
    named = [part for part in first if part.startswith("run=")]
    assert len(named) <= 1
    compose([part for part in first if part not in named])


def run(tmp_path: Path, *arguments: str, path: Path | None = None) -> str:
    env = os.environ | (
        {"PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"} if path else {}
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, f"outputs={tmp_path}"],
        capture_output=True, text=True, timeout=500, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_pages_commands_run_one_after_the_other(tmp_path):
    """Those of configure.md, small, as a reader types them."""
    for page, command in COMMANDS:
        given = overrides(command)
        if page != "configure" or set(given) & set(HYDRA_FLAGS):
            continue
        if any(part.startswith("target=") for part in given):  # so small a run reaches none
            continue
        given = [part.replace("outputs/", f"{tmp_path}/") for part in given]
        small = [part for part in SMALL if part.split("=")[0] not in " ".join(given)]
        run(tmp_path, *small, *given)
    assert (tmp_path / "latest" / "report.html").exists()


@pytest.mark.slow
def test_the_router_of_the_page_routes(tmp_path):
    """The class and the YAML of extend.md, as they stand there."""
    page = ROOT / "docs" / "extend.md"
    code, options = blocks(page, "python")[0], blocks(page, "yaml")[0]
    assert len([line for line in code.splitlines() if line]) <= 20
    (tmp_path / "my_router.py").write_text(code)
    (tmp_path / "conf" / "router").mkdir(parents=True)
    (tmp_path / "conf" / "router" / "runner_up.yaml").write_text(options)
    out = run(tmp_path / "outputs", "--config-dir", str(tmp_path / "conf"), "router=runner_up",
              "threshold=0.5", "systems=[routed]", "benchmark.limit=4", path=tmp_path)  # fmt: skip
    assert "runner_up router at threshold 0.5" in out


@pytest.mark.slow
def test_the_policy_of_the_page_shares_answers(tmp_path):
    page = ROOT / "docs" / "extend.md"
    code, options = blocks(page, "python")[1], blocks(page, "yaml")[1]
    assert len([line for line in code.splitlines() if line]) <= 30
    (tmp_path / "my_policy.py").write_text(code)
    (tmp_path / "conf" / "policy").mkdir(parents=True)
    (tmp_path / "conf" / "policy" / "opening.yaml").write_text(options)
    out = run(tmp_path / "outputs", "--config-dir", str(tmp_path / "conf"), "policy=opening",
              "systems=[slm,routed]", "benchmark.limit=4", path=tmp_path)  # fmt: skip
    assert "opening" in out
    found = json.loads((tmp_path / "outputs" / "latest" / "results.json").read_text())
    assert 0 < found["systems"]["routed"]["llm_share"] < 1


def test_the_errors_of_the_page_are_those_of_the_code():
    source = " ".join(path.read_text() for path in [*(ROOT / "src").rglob("*.py"), ROOT / "run.py"])
    plain = re.sub(r"\"\s*\n?\s*f?\"", "", re.sub(r"\s+", " ", source)).replace('" f"', "")
    table = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "faq.md").read_text(), flags=re.MULTILINE)
    assert len(table) > 10
    assert [said for said in table if said not in plain] == []


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS, ROOT / "sweeps" / "README.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), (page.name, link)


def test_nothing_advises_an_install_by_name():
    """r2r on PyPI is another project: this one is installed from its checkout or a wheel."""
    pages = [*DOCS, *ROOT.glob("*.md"), *(ROOT / "experiments").rglob("*.md")]
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
    asks = re.compile(
        r"\b(pip|pipx|uv|uvx)\b[^\n`]*\b(install|add|run|uvx)\b[^\n`]*['\"\s=]r2r(-routing)?\b"
    )
    name = "r2r"
    assert asks.search(f"pip install '{name}[sglang]'") and asks.search(f"uv add {name}")
    for path in (*pages, *sources, ROOT / "Makefile", ROOT / "pyproject.toml"):
        for line in path.read_text().splitlines():
            assert not asks.search(line), f"{path.name}: {line}"


def test_the_distributions_name_is_not_anothers():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    assert project["name"] == "r2r-routing"
    assert set(project["scripts"]) == {"r2r-serve", "r2r-eval"}
