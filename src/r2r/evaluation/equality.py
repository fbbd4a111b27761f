"""Whether two mathematical answers are equal, by math-verify, in a process that can be killed.

An answer such as 9^{9^{9^9}} keeps sympy busy for ever, in C code that no thread, and no handler
of a signal, can stop.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
import subprocess
import sys
import threading

START_S = 60  # importing sympy on a busy machine
ANSWER_S = 5
MEMORY_BYTES = 4 << 30  # of the worker's address space

_lock = threading.Lock()
_worker: subprocess.Popen[str] | None = None


def equal(gold: str, answer: str) -> bool:
    """math-verify's verdict; False where it finds none in ``ANSWER_S`` seconds. Thread-safe."""
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
        signal.alarm(answer_s)
        gold, answer = (read(f"\\boxed{{{text}}}") for text in json.loads(line))
        verdict = bool(verify(gold, answer, timeout_seconds=None))
        signal.alarm(0)
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
