"""What runs beside a generated program, in the sandbox. Nothing imports this: its source is handed
to the sandbox with a call of ``run``, ``call`` or ``check`` behind it.

A program can do what it likes to all that is in its process, so nothing here decides whether it is
right: outputs and results are compared outside, and ``check`` keeps the tests in another process.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import json
import math
import os
import resource
import sys
import textwrap
import threading
import time
from types import CodeType
from typing import Any

RECURSION, DIGITS = 50_000, 50_000  # LiveCodeBench's limits
# LiveCodeBench imports all names of these modules, in this order, and then the modules themselves.
STARRED = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random",
    "statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
CONTAINERS = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
real_open = open


def run(program: str, mark: str, seconds: float) -> None:
    """A program that reads standard input, as a script. ``mark`` is printed when it has ended, by
    its last line or any exit but os._exit."""
    out = os.dup(1)
    limit(seconds)
    builtins.open = opened
    code = compiled(program)
    with contextlib.suppress(SystemExit):
        exec(code, contest_names("__main__"))
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    with contextlib.suppress(Exception):  # the program may have closed it
        sys.stdout.flush()
    os.write(out, mark.encode())


def call(program: str, name: str, mark: str, seconds: float, *, contest: bool) -> None:
    """Print ``mark`` and the results, as JSON, of calling the program's function (or the method of
    its class ``Solution``). Standard input: a JSON list of calls, each a text with one JSON
    argument a line."""
    out = os.dup(1)
    calls = json.loads(sys.stdin.read())
    limit(seconds)
    code = compiled(program)
    scope: dict[str, Any] = contest_names("tmp_sol") if contest else {"__name__": "tmp_sol"}
    exec(code, scope)
    owner = scope["Solution"]() if "Solution" in scope else None
    function = getattr(owner, name) if hasattr(owner, name) else scope[name]
    results = [function(*map(json.loads, given.split("\n"))) for given in calls]
    with real_open(out, "w") as file:
        file.write(mark + json.dumps(results, default=number))
    os._exit(0)


def check(prompt: str, program: str, name: str, seconds: float) -> None:
    """Exit code 0 where the program's function passes HumanEval's ``check``, which comes on
    standard input. The program has a process of its own, which sees arguments and never tests."""
    asked, ask = os.pipe()
    told, tell = os.pipe()
    if not os.fork():
        nothing, closed = os.pipe()
        os.dup2(nothing, 0)
        for end in (ask, told, closed):
            os.close(end)
        limit(seconds)
        answer_calls(prompt, program, name, asked, tell)
        os._exit(0)
    os.close(asked)
    os.close(tell)
    asks, replies = real_open(ask, "w"), real_open(told)

    def reply() -> Any:
        try:
            value = json.loads(replies.readline())
            raised = value.get("raised") if isinstance(value, dict) else None
            return getattr(builtins, raised) if raised else decoded(value)
        except Exception:  # the program has ended, or wrote here itself
            os._exit(1)

    def candidate(*args: Any, **options: Any) -> Any:
        asks.write(json.dumps([encoded(args), encoded(options)]) + "\n")
        asks.flush()
        result = reply()
        if isinstance(result, type) and issubclass(result, Exception):
            raise result
        return result

    scope: dict[str, Any] = {}
    with contextlib.suppress(SyntaxError):
        exec(compile(prompt, "prompt.py", "exec"), scope)  # helpers that the tests may call
    tests = compile(sys.stdin.read(), "tests.py", "exec")
    reply()  # the program has been read
    scope[name] = candidate
    exec(tests, scope)
    scope["check"](candidate)
    os._exit(0)


def limit(seconds: float) -> None:
    """From here on the process may use this much processor time. Wall time, which the references
    count, would make the result a matter of what else runs; the sandbox limits it more loosely."""
    most = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))


def contest_names(name: str) -> dict[str, Any]:
    """The names that LiveCodeBench gives every program; ``pow`` and its like are the builtins."""
    scope: dict[str, Any] = {"__name__": name}
    lines = [f"from {module} import *" for module in STARRED]
    lines += [f"import {module}" for module in STARRED if module not in ("builtins", "typing")]
    exec("\n".join(lines), scope)
    scope["quit"] = scope["exit"]
    sys.setrecursionlimit(RECURSION)
    sys.set_int_max_str_digits(DIGITS)
    return scope


def compiled(program: str) -> CodeType:
    """A program as it stands, without its indentation, or as the body of a function (LiveCodeBench
    runs all as one, so that a ``return`` at the top is taken). Raises the first's SyntaxError."""
    try:
        return compile(program, "answer.py", "exec")
    except SyntaxError as error:
        for attempt in (textwrap.dedent, as_function):
            with contextlib.suppress(SyntaxError):
                return compile(attempt(program), "answer.py", "exec")
        raise error from None


def as_function(program: str) -> Any:
    tree = ast.parse(textwrap.dedent(program))
    whole = ast.parse("def wrapped_function():\n    pass\nwrapped_function()")
    imports = [line for line in tree.body if isinstance(line, (ast.Import, ast.ImportFrom))]
    body: Any = whole.body[0]
    body.body = [line for line in tree.body if line not in imports] or body.body
    whole.body[:0] = imports
    return ast.fix_missing_locations(whole)


def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
    """``open``; input.txt or /dev/stdin, where they are not there, read as standard input."""
    try:
        return real_open(file, mode, *args, **options)
    except FileNotFoundError:
        if set(mode) & set("wax+") or os.path.dirname(file) not in ("", "/dev", b""):
            raise
        content = io.BytesIO(os.pread(0, os.fstat(0).st_size, 0))
        return content if "b" in mode else io.TextIOWrapper(content)


def answer_calls(prompt: str, program: str, name: str, asked: int, tell: int) -> None:
    """Read the program, say so, and answer each call with its result, or the error of Python's own
    that it raised."""
    function = defined(prompt, program, name)
    with real_open(asked) as calls, real_open(tell, "w") as told:
        print(json.dumps(encoded(None)), file=told, flush=True)
        for line in calls:
            args, options = map(decoded, json.loads(line))
            try:
                reply = encoded(function(*args, **options))
            except Exception as error:
                known = (kind for kind in type(error).__mro__ if hasattr(builtins, kind.__name__))
                reply = {"raised": next(known).__name__}
            print(json.dumps(reply), file=told, flush=True)


def defined(prompt: str, program: str, name: str) -> Any:
    """The function: the program defines it, or is its body, which goes on where the prompt ends."""
    scope: dict[str, Any] = {}
    with contextlib.suppress(SyntaxError):
        exec(compile(prompt, "prompt.py", "exec"), scope)
    bare = textwrap.dedent(program)
    body = f"{prompt}\n{textwrap.indent(bare, '    ')}"
    for source in (program, bare, f"{prompt}\n{program}", body):
        with contextlib.suppress(SyntaxError):
            code = compile(source, "answer.py", "exec")
            if name in code.co_names:
                exec(code, scope)
                return scope[name]
    raise NameError(name)


def number(value: Any) -> int | float:
    """A Fraction, a Decimal or a number of numpy's, where it is one of Python's."""
    for kind in (int, float):
        with contextlib.suppress(ArithmeticError, TypeError, ValueError):
            if kind(value) == value:
                return kind(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def encoded(value: Any) -> Any:
    """A value of Python's own types as JSON from which ``decoded`` makes the same again."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return {"int": hex(value)}
    if isinstance(value, dict):
        return {"dict": [[encoded(key), encoded(item)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    for name, kind in CONTAINERS.items():
        if isinstance(value, kind):
            return {name: [encoded(item) for item in value]}
    return encoded(number(value))


def decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if name == "int":
        return int(content, 16)
    if name == "dict":
        return {decoded(key): decoded(item) for key, item in content}
    if name == "complex":
        return complex(*content)
    if name == "bytes":
        return bytes.fromhex(content)
    return CONTAINERS[name](map(decoded, content))
