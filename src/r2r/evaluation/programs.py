"""Graders of answers that are programs. Nothing a model wrote runs outside the sandbox."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from r2r.evaluation.blocks import defines, find_program
from r2r.evaluation.sandbox import run_program

PROGRAMS_VERSION = 1  # which programs are right, and what the sandbox lets them do
INSIDE = Path(__file__).with_name("inside.py").read_text()
NANO_S, NANO_MB = 5.0, 256
CHECK_S = 3.0  # HumanEval's limit for one problem
WAIT_S = 10.0  # of wall time, beyond a limit of processor time: the machine may be busy
MEMORY_MB = 1024  # the most that the contests give
THREADS = 8  # contest programs start a thread to get a deeper stack


def code_correct(text: str, tests: list[list]) -> bool:
    """Whether the answer's program defines ``f`` with f(x) == y for all of ``tests``
    [[x, y], ...] (JSON values). Raises ConfigError where there is no sandbox."""
    program = find_program(text, defines("f"))
    if program is None:
        return False
    inputs, expected = zip(*tests, strict=True)
    return outputs(program, json.dumps([json.dumps(x) for x in inputs])) == list(expected)


@functools.lru_cache(maxsize=4096)  # models of one pair often write the same program
def outputs(program: str, calls: str) -> list | None:
    """``results`` of ``f``, with the limits of the nano benchmark."""
    return results(program, "f", calls, timeout_s=NANO_S, memory_mb=NANO_MB)


def results(
    program: str,
    name: str,
    calls: str,
    *,
    timeout_s: float,
    memory_mb: int,
    processes: int = 1,
    contest: bool = False,
) -> list | None:
    """What the program's function returns for each of ``calls`` (a JSON list of texts, one JSON
    argument a line), run in the sandbox; integers are Decimals. None where the program fails.

    ``timeout_s``: of processor time."""
    mark = secrets.token_hex(16)
    code = f"{INSIDE}\ncall({program!r}, {name!r}, {mark!r}, {timeout_s}, contest={contest})\n"
    run = run_program(
        code, calls, timeout_s=timeout_s + WAIT_S, memory_mb=memory_mb, processes=processes
    )
    _, ended, found = run.stdout.rpartition(mark)
    try:
        return read_json(found) if run.ok and ended else None
    except (ValueError, RecursionError):
        return None


def read_json(text: str) -> Any:
    """JSON whose integers may have any number of digits; they equal Python's own."""
    return json.loads(text, parse_int=Decimal)


def check_correct(text: str, doc: Mapping[str, Any]) -> bool:
    """Whether the answer's function (or its body alone) passes HumanEval's ``check``.

    The prompt comes first: it imports, and defines helpers, that an answer need not repeat.
    """
    program = find_program(text, defines(doc["entry_point"]))
    if program is None:
        return False
    asked = (doc["question"], program, doc["entry_point"], CHECK_S)
    run = run_program(
        f"{INSIDE}\ncheck{asked!r}\n",
        doc["test"],
        timeout_s=CHECK_S + WAIT_S,
        memory_mb=MEMORY_MB,
        processes=THREADS,
    )
    return run.ok
