"""How true a run's ETA is: python tests/foretold.py KEY=VALUE ... (overrides of run.py)

Runs the command in this process, and in new outputs unless it gives some: an ETA begins with how
long the texts of earlier runs there got. Looks at each stage's progress a few times a
second, and tells what the ETA was at a fifth, a half and nine tenths of its tokens, beside what was
left in truth. Seconds are of this process's CPU time: what else the machine does changes nothing.
"""

import contextlib
import sys
import tempfile
import threading
import time

from r2r.progress import Facts, Progress
from r2r.stages import watch
from r2r.stages.command import main as command

SHARES = (0.2, 0.5, 0.9)
EACH_S = 0.2


def line(told: list[Facts]) -> str:
    last = told[-1]
    end = next(facts.elapsed_s for facts in told if facts.finished == last.total)
    parts = []
    for share in SHARES:
        facts = next(facts for facts in told if facts.made >= share * last.made)
        left = end - facts.elapsed_s
        if facts.eta_s is None:
            parts.append(f"{share:.0%}: ? of {left:.1f} s")
        else:
            wrong = facts.eta_s / left
            parts.append(f"{share:.0%}: {facts.eta_s:.1f} of {left:.1f} s, x{wrong:.2f}")
    return f"{last.total} items, {last.made:,} tokens: " + "; ".join(parts)


def main() -> None:
    made: list[tuple[Progress, list[Facts]]] = []

    def make(**given) -> Progress:
        progress = Progress(clock=time.process_time, **given)
        made.append((progress, []))
        return progress

    def look() -> None:
        while True:
            time.sleep(EACH_S)
            for progress, told in list(made):
                facts = progress.facts()
                if facts.made and (not told or told[-1].finished < told[-1].total):
                    told.append(facts)

    watch.Progress = make
    threading.Thread(target=look, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="r2r-foretold-") as folder:
        sys.argv = ["run.py", f"outputs={folder}/outputs", *sys.argv[1:]]
        with contextlib.suppress(SystemExit):
            command()
    for _, told in made:
        if told and told[-1].finished == told[-1].total:
            print(line(told))


if __name__ == "__main__":
    main()
