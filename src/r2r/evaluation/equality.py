"""Whether two mathematical answers are equal, by math-verify, in a process that can be killed.

An answer such as 9^{9^{9^9}} keeps sympy busy for ever, in C code that no thread, and no handler
of a signal, can stop.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import logging
import subprocess
import sys
import threading
from typing import Any

START_S = 60  # importing sympy on a busy machine
ANSWER_S = 5  # of processor time
DIGITS = 500  # to which expressions are told apart
ROUNDED = 2000  # a decimal stands for what it differs from by less than this part
MEMORY_BYTES = 4 << 30  # of the worker's address space

_lock = threading.Lock()
_worker: subprocess.Popen[str] | None = None


def equal(gold: str, answer: str) -> bool:
    """math-verify's verdict, without its tolerance (``differ``); False where it finds none in
    ``ANSWER_S`` seconds. Thread-safe."""
    with _lock:
        worker = _running()
        assert worker.stdin and worker.stdout
        print(json.dumps([gold, answer]), file=worker.stdin, flush=True)
        verdict = worker.stdout.readline()
        if not verdict:
            stop()
        return verdict == "true\n"


def _running() -> subprocess.Popen[str]:
    global _worker
    if _worker is None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", __file__, str(ANSWER_S)]
        _worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert _worker.stdout
        if _worker.stdout.readline() != "ready\n":
            stop()
            raise RuntimeError("math-verify's process did not start")
    return _worker


@atexit.register
def stop() -> None:
    """End the worker; the next question starts another."""
    global _worker
    if _worker:
        _worker.kill()
        _worker.communicate()
        _worker = None


def differ(gold: Any, answer: Any) -> bool:
    """Whether two expressions that math-verify calls equal are not: it compares to 15 digits behind
    the point (6, where one is a decimal), so that all tiny numbers are equal to it."""
    from math_verify.grader import is_assignment_relation, sort_key, take_last_relation
    from sympy import Basic, Interval, MatrixBase, Set, Symbol, Tuple

    if not all(isinstance(each, (Basic, MatrixBase)) for each in (gold, answer)):
        return False
    gold, answer = (
        take_last_relation(each).rhs if is_assignment_relation(each) else each
        for each in (gold, answer)
    )
    parts = [_parts(each, sort_key, Interval, MatrixBase, Set, Tuple) for each in (gold, answer)]
    if any(part is not None for part in parts):
        one, other = (part or [] for part in parts)
        return len(one) == len(other) and any(map(differ, one, other))
    if isinstance(gold, Symbol) or isinstance(answer, Symbol):
        return False
    try:
        return _value_differs(gold, answer)
    except Exception:  # no numbers: relations, functions without a value
        return False


def _parts(each: Any, key: Any, interval: type, matrix: type, sets: type, row: type) -> Any:
    if isinstance(each, interval):
        return [each.start, each.end]
    if isinstance(each, matrix):
        return list(each)
    if isinstance(each, sets):
        return sorted(each.args, key=key)
    return list(each.args) if isinstance(each, row) else None


def _value_differs(gold: Any, answer: Any) -> bool:
    from sympy import Float, Rational, prime

    symbols = sorted(gold.free_symbols, key=str)
    if set(symbols) != answer.free_symbols:
        return False
    some = {symbol: Rational(prime(n + 5), prime(n + 9)) for n, symbol in enumerate(symbols)}
    gold, answer = gold.subs(some), answer.subs(some)
    difference = (gold - answer).evalf(20, maxn=DIGITS)
    if gold.has(Float) or answer.has(Float):
        most = max(abs(gold.evalf(20)), abs(answer.evalf(20)))
        return bool(abs(difference) > most / ROUNDED)
    return bool(difference != 0 and getattr(difference, "_prec", 0) > 1)


def serve(answer_s: int) -> None:
    """Answer questions from standard input. An alarm that nobody handles ends this process."""
    import resource
    import signal

    signal.alarm(START_S)
    from math_verify import parse, verify

    logging.disable(logging.WARNING)  # that its own time limits are off, for every answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    read = functools.partial(parse, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    signal.alarm(0)
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, answer_s)
        golds, answers = (read(f"\\boxed{{{text}}}") for text in json.loads(line))
        verdict = any(
            verify(gold, answer, timeout_seconds=None) and not differ(gold, answer)
            for gold, answer in itertools.product(golds, answers)
        )
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
