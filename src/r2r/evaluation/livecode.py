"""LiveCodeBench's tests: unpacked without running anything, and given to a program."""

from __future__ import annotations

import base64
import json
import pickletools
import secrets
import zlib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from r2r.evaluation.blocks import READS_INPUT, defines, find_program
from r2r.evaluation.programs import INSIDE, MEMORY_MB, THREADS, WAIT_S, read_json, results
from r2r.evaluation.sandbox import run_program

LIVECODE_VERSION = 1  # LiveCodeBench's tests, and which programs pass them
TEXT = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
AROUND_TEXT = ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP")
TEST_S = 6.0  # LiveCodeBench's limit for one test


def read_tests(public: str, private: str) -> list[dict[str, str]]:
    """The tests {input, output, testtype}; ValueError where they are not such a list.

    Both are JSON; ``private`` may be packed: base64, zlib, a pickle of the JSON text.
    """
    if not private.lstrip().startswith("["):
        try:
            private = pickled_text(zlib.decompress(base64.b64decode(private, validate=True)))
        except zlib.error as error:
            raise ValueError(error) from error
    tests = [*json.loads(public), *json.loads(private)]
    fields = {"input", "output", "testtype"}
    if not tests or not all(isinstance(t, dict) and fields <= t.keys() for t in tests):
        raise ValueError("tests must be a list of {input, output, testtype}")
    return tests


def pickled_text(content: bytes) -> str:
    """The text of a pickle that holds a text and nothing else. It is parsed, never executed.

    Raises ValueError where there is anything else in it.
    """
    texts = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in TEXT:
            texts.append(argument)
        elif opcode.name not in AROUND_TEXT:
            raise ValueError(f"a pickle of one text was expected, it holds {opcode.name}")
    if len(texts) != 1:
        raise ValueError(f"a pickle of one text was expected, it holds {len(texts)}")
    return texts[0]


def livecode_correct(text: str, doc: Mapping[str, Any]) -> bool:
    """Whether the answer's program passes every public and private test of ``doc``."""
    program = find_program(text, defines(doc["function"]) if doc["function"] else READS_INPUT)
    if program is None:
        return False
    tests = read_tests(doc["public_tests"], doc["private_tests"])
    return all(passes(program, test, doc["function"]) for test in tests)


def passes(program: str, test: Mapping[str, str], function: str) -> bool:
    """One test, in a process of its own. ``function``: what is called, with one JSON argument a
    line; empty where the program reads standard input."""
    given, wanted = test["input"], test["output"]
    if not function:
        mark = secrets.token_hex(16)
        run = run_program(
            f"{INSIDE}\nrun({program!r}, {mark!r}, {TEST_S})\n",
            given,
            timeout_s=TEST_S + WAIT_S,
            memory_mb=MEMORY_MB,
            processes=THREADS,
        )
        before, ended, after = run.stdout.partition(mark)
        return run.ok and bool(ended) and same_output(before + after, wanted)
    found = results(
        program, function, json.dumps([given]), contest=True,
        timeout_s=TEST_S, memory_mb=MEMORY_MB, processes=THREADS,
    )  # fmt: skip
    try:
        return found == [read_json(wanted)]
    except (ValueError, RecursionError):
        return False


def same_output(got: str, wanted: str) -> bool:
    """Line by line, apart from white space at both ends; numbers may be written differently."""
    pairs = [[line.strip() for line in text.strip().split("\n")] for text in (got, wanted)]
    return len(pairs[0]) == len(pairs[1]) and all(map(_same_line, *pairs))


def _same_line(got: str, wanted: str) -> bool:
    try:
        return got == wanted or _numbers(got) == _numbers(wanted)
    except InvalidOperation:
        return False


def _numbers(line: str) -> list[Decimal]:
    return [Decimal(word) for word in line.split()]
