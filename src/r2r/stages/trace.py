"""One scored answer on the terminal: who wrote which token, what the SLM had wanted, the grade."""

from __future__ import annotations

from typing import Any

from rich.panel import Panel
from rich.text import Text

from r2r.errors import must_be
from r2r.reporting.traces import COLOURS, LEGEND, colored, marked
from r2r.stages import fingerprints
from r2r.stages.evaluate import scored_folder, systems
from r2r.stages.readable import readable
from r2r.stages.samples import read_samples
from r2r.stages.screen import console
from r2r.stages.workbench import Workbench


def trace(bench: Workbench) -> None:
    """Print the answer of ``trace.system`` to ``trace.problem``; coloured on a terminal.

    Raises ConfigError where that system was not scored, or has no such problem.
    """
    wanted, system = bench.config.trace, bench.config.trace.system
    known = systems(bench)
    if system not in known:
        raise must_be("trace.system", "one of systems", system, known)
    folder = scored_folder(bench, system)
    bench.use(fingerprints.evaluation(bench, system))
    samples = list(read_samples(folder))
    (row,) = readable(bench, [_chosen(samples, wanted.problem)], [False])
    tokens, by_llm = len(row["llm"]), sum(row["llm"])
    about = f"{row['id']}, {system}: {'correct' if row['correct'] else 'wrong'}"
    console.print()
    console.print(Panel(Text(row["question"]), title=row["task"], title_align="left"))
    console.print(colored(row) if console.is_terminal else Text(marked(row)), soft_wrap=True)
    console.print()
    told = f"{about} (reference: {row['gold']}), {tokens} tokens, {by_llm} by the LLM"
    piped = not console.is_terminal  # lines as they are; on a terminal broken between words
    console.print(Text(told), soft_wrap=piped)
    console.print(Text(LEGEND) if piped else COLOURS, soft_wrap=piped)


def _chosen(samples: list[dict[str, Any]], problem: Any) -> dict[str, Any]:
    if isinstance(problem, int) and 0 <= problem < len(samples):
        return samples[problem]
    for sample in samples:
        if sample["id"] == problem:
            return sample
    ids = [sample["id"] for sample in samples]
    wanted = f"a place below {len(ids)}, or an id from {ids[0]} to {ids[-1]}"
    raise must_be("trace.problem", wanted, problem)
