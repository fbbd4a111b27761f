"""What a golden is, and the inputs that several steps share; golden_steps.py writes them."""

import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny import NANO
from toy import END, HIDDEN, decode, ids

from r2r.config import ModelConfig, PairConfig
from r2r.engines.base import Sampling
from r2r.labeling.sentences import Sentences
from r2r.policies.base import Generator, Prompt
from r2r.trace import TokenSignals

FOLDER = Path(__file__).parent / "golden"
CONF = Path(__file__).parents[1] / "conf"
COMMAND = "python tests/golden_steps.py"
SECONDS = ("seconds", "tokens_per_s")
PLAN = ids("So ", "1", "+", "2", "=", "3", ".\n", "Now ", "3", "+", "1", "=", "4", ".\n", "<end>")
ASKED = ids("<ask>", "1", "<go>")


@dataclass(frozen=True)
class Golden:
    """``module``, ``constant``: where the version is; an attribute, or one of a class's."""

    name: str
    module: str
    constant: str
    output: Callable[[], Any]

    @property
    def version(self) -> int:
        found: Any = importlib.import_module(self.module)
        for part in self.constant.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        return found

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"

    @property
    def where(self) -> str:
        return f"{self.constant} in src/{self.module.replace('.', '/')}.py"

    def now(self) -> dict[str, Any]:
        return {"version": self.version, "output": json.loads(json.dumps(self.output()))}

    def fault(self) -> str | None:
        """What is wrong with the golden, and what to do; None where nothing is."""
        if not self.file.exists():
            return f"{self.name} has no golden: {COMMAND}"
        kept, now = json.loads(self.file.read_text()), self.now()
        if kept["version"] != now["version"]:
            return (
                f"{self.where} is {now['version']}, the golden of {kept['version']}: {COMMAND}"
                if kept["output"] != now["output"]
                else f"{self.where} is {now['version']}, and gives what {kept['version']} gave:"
                f" put it back, or {COMMAND} where this step's golden shows too little"
            )
        if kept["output"] != now["output"]:
            return (
                f"{self.name} gives something else than before: raise {self.where}, so that"
                f" nobody's artifacts are taken for what it gives now, then {COMMAND}"
            )
        return None


STEPS: dict[str, Golden] = {}


def step(module: str, constant: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(output: Callable[[], Any]) -> Callable[[], Any]:
        STEPS[output.__name__] = Golden(output.__name__, f"r2r.{module}", constant, output)
        return output

    return keep


# Fixed inputs.


class Words:
    def decode(self, tokens, skip_special_tokens):
        return decode([token for token in tokens if token != END])


class FullStops(Sentences):
    """Sentences that end with a full stop, whatever the real rule says."""

    def __init__(self):
        super().__init__(decode=decode, think_ids=[], eos_ids=[END], limit=12)

    def ends(self, sentence, following=None):
        return sentence[-1] in (*ids(".\n"), END)


def plan(prompt, answer):
    return PLAN[len(answer)] if len(answer) < len(PLAN) else END


def slips(prompt, answer):
    return {1: ids("4")[0], 4: ids(" is ")[0]}.get(len(answer), plan(prompt, answer))


COMMON = {"tokenizer": Words(), "context": 40, "concurrency": 2}
ENDS = frozenset([END])


def traces(generator: Generator, *prompts: Prompt) -> list[Any]:
    asked = prompts or (Prompt(ASKED, Sampling(30)),)
    return [trace.to_json() | {"seconds": 0} for trace in generator.generate(asked)]


def rounded(values: Any, digits: int = 2) -> Any:
    return np.round(np.asarray(values, float), digits).tolist()


def signals(rows: int = 6) -> TokenSignals:
    at = torch.arange(rows)
    logits = (torch.arange(100) * -0.05)[None] * (1 + at[:, None] / 3) + 5
    hidden = torch.sin(at[:, None] * 1.7 + torch.arange(HIDDEN)[None])
    return TokenSignals(at * 3 % 7, logits, hidden, at)


def nano_pair():
    from r2r.pairs import ModelPair

    models = {name: ModelConfig(path=str(NANO / name)) for name in ("slm", "llm")}
    config = PairConfig(
        name="nano", **models, dtype="float32", think_end="</think>", max_new_tokens=160
    )
    return ModelPair(config, Path(tempfile.gettempdir()) / "r2r-golden-none")
