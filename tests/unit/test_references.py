# ruff: noqa: E501  # programs in one line
"""How LiveCodeBench's and HumanEval's own code runs and grades programs: each row of the tables in
docs/programs.md has its cases here, (program, tests, right)."""

import json
import re
from pathlib import Path

import pytest
from benchmark_files import case

from r2r.errors import ConfigError
from r2r.evaluation import livecode, programs
from r2r.evaluation.livecode import livecode_correct
from r2r.evaluation.programs import check_correct
from r2r.evaluation.sandbox import run_program

try:
    run_program("", timeout_s=60, memory_mb=256)
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

PAGE = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()
READ = "n = int(input())\n"


def reads(program, right, given="21\n", wanted="42\n"):
    return program, [case(given, wanted)], "", right


def called(program, right, given="[1, 2]\n3", wanted="6"):
    return program, [case(given, wanted, "functional")], "total", right


def method(body, right, given="[1, 2]\n3", wanted="6"):
    return called(
        f"class Solution:\n    def total(self, *a):\n        {body}", right, given, wanted
    )


LIVECODEBENCH = {
    "names": [
        reads("print(gcd(4, 6), ceil(1.2), ascii_lowercase[0], sqrt(4), inf)", True, "", "2 2 a 2.0 inf"),
        reads("d: Deque = deque([2]); h = [3]; heappush(h, 1); print(*d, *h)", True, "", "2 1 3"),
        reads("print(*accumulate([1, 2]), lru_cache and mean([1, 3]), timedelta(1).days)", True, "", "1 3 2 1"),
        reads("print(deepcopy([1]), dumps([1]), StringIO('a').read(), maxsize > 1)", True, "", "[1] [1] a True"),
        reads("print(randint(1, 1), findall('a', 'aa'), bisect_left([1, 2], 2), xor(1, 3))", True, "", "1 ['a', 'a'] 1 2"),
        reads("for line in stdin: print(int(line) * 2)", True),
        reads("print(np)", False, "", "np"),
        method("return sum(a[0]) + reduce(mul, [3]) and gcd(6, 12)", True),
    ],
    "order of names": [
        reads("MOD = 10**9 + 7\nprint(pow(3, MOD - 2, MOD) * 3 % MOD, pow(2, -1, 5))", True, "", "1 3"),
        reads("print(abs(-1), open is not None, sum([1]), max(1, 2), range(1))", True, "", "1 True 1 2 range(0, 1)"),
        reads("print(datetime.date(2024, 1, 1), bisect.bisect([1], 1), copy.copy(1))", True, "", "2024-01-01 1 1"),
        reads("print(random.randint(1, 1), string.digits, sub(3, 1), Counter('aa')['a'])", True, "", "1 0123456789 2 2"),
        reads("from math import *\nprint(pow(2, 2))", True, "", "4.0"),
        method("return pow(3, 5, 7) + 1", True),
    ],
    "recursion": [
        reads("f = lambda n: n and 1 + f(n - 1)\nprint(f(40000))", True, "", "40000"),
        reads("@cache\ndef f(n): return n and 1 + f(n - 1)\nprint(f(20000))", True, "", "20000"),
        reads("f = lambda: 1 + f()\nf()", False),
        method("f = lambda n: n and 1 + f(n - 1)\n        return f(40000) // 40000 * 6", True),
    ],
    "digits": [
        reads("print(10**20000)", True, "", "1" + "0" * 20000),
        reads("print(int(input()) + 1)", True, "9" * 20000, "1" + "0" * 20000),
        method("return a[0] + 1", True, "9" * 20000, "1" + "0" * 20000),
        method("return a[0] + 2", False, "9" * 20000, "1" + "0" * 20000),
    ],
    "__name__": [
        reads(READ + "if __name__ == '__main__':\n    print(2 * n)", True),
        reads("def main():\n    print(2 * int(input()))\nif '__main__' == __name__: main()\nx = 1", True),
        method("return 6\nif __name__ == '__main__':\n    total(input())", True),
        method("return 6 if __name__ == 'tmp_sol' else 0", True),
    ],
    "top level": [
        reads(READ + "if n == 21:\n    print(42)\n    return\nprint(1)", True),
        reads(READ + "def f():\n    nonlocal n\n    n *= 2\nf()\nprint(n)", True),
        reads("    n = int(input())\n    print(2 * n)", True),
        reads(READ + "x = 0\ndef f():\n    global x\n    x += 2 * n\nf()\nprint(x)", True),
        reads("from __future__ import annotations\n" + READ + "print(2 * n)", True),
        reads(READ + "print(2 * n", False),
        called("from __future__ import annotations\ndef total(xs: X, y): return sum(xs) + y", True),
    ],
    "input": [
        reads("import sys\nprint(2 * int(sys.stdin.readline()))", True),
        reads("import sys\nprint(2 * int(sys.stdin.read().split()[0]))", True),
        reads("import sys\nprint(*(2 * int(x) for x in sys.stdin))", True),
        reads("import sys\ninput()\nprint(sys.stdin.buffer.readlines())", True, "1\n2\n", "[]"),
        reads("import sys\nprint(2 * int(sys.stdin.buffer.readline()))", True),
        reads("print(2 * int(open(0).read()))", True),
        reads("import os\nprint(2 * int(os.read(0, 99)))", True),
        reads("import sys\nsys.stdin = open('input.txt')\nprint(2 * int(input()))", True),
        reads("print(2 * int(open('/dev/stdin').read()))", True),
        reads("print(2 * int(open('/dev/stdin', 'rb').read()))", True),
        reads("input()\ninput()", False, "1", ""),
        reads("print(input()[::-1])", True, "é漢\n", "漢é"),
        reads("print(int(input()) + int(input()))", True, "1\r\n2\r\n", "3"),
    ],
    "exit": [
        *(
            reads(f"import sys\n{READ}print(2 * n)\n{leave}\nprint('more')", True)
            for leave in ("exit()", "quit()", "exit(3)", "sys.exit()", "sys.exit(1)", "raise SystemExit('x')")
        ),
        reads(READ + "def f():\n    print(2 * n)\n    exit()\nf()", True),
        reads(READ + "print(2 * n, flush=True)\nimport os\nos._exit(0)", False),
        reads(READ + "print(2 * n, flush=True)\nimport os\nos.kill(os.getpid(), 9)\nos.abort()", False),
        method("sys.exit(6)", False),
        called("def total(*a): return 6\nexit()", False),
        called("import os\ndef total(*a):\n    print(6, flush=True)\n    os._exit(0)", False),
    ],
    "errors": [
        reads(READ + "print(2 * n)\n1 / 0", False),
        reads(READ + "print(2 * n)\nraise KeyboardInterrupt", False),
        reads("import sys\n" + READ + "print(2 * n)\nprint('debug', file=sys.stderr)", True),
        reads("import threading\n" + READ + "def f():\n    print(2 * n)\n    1 / 0\n"
              "t = threading.Thread(target=f)\nt.start()", True),
        method("1 / 0", False),
        method("raise ValueError(6)", False),
    ],
    "output": [
        reads("import sys\n" + READ + "sys.stdout.write(str(2 * n))", True),
        reads("import sys\n" + READ + "sys.stdout.buffer.write(b'42')", True),
        reads("import io, sys\n" + READ + "old, sys.stdout = sys.stdout, io.StringIO()\nprint(2 * n)\n"
              "old.write(sys.stdout.getvalue())\nold.close()", True),
        reads("import sys\n" + READ + "print(2 * n)\nsys.stdout.close()", True),
    ],
    "comparison": [
        reads(f"print({got!r})", right, "", wanted)
        for got, wanted, right in (
            ("42", "\n 42  \n\n", True), ("\n42", "42", True), ("1 2 \n 3", "1 2\n3", True),
            ("1\n\n2", "1\n2", False), ("1\n2", "1 2", False), ("1  2", "1 2", True),
            ("a  b", "a b", False), ("Yes", "YES", False), ("0.50", "0.5", True),
            ("1e3", "1000", True), ("2.0", "2", True), ("0.3000001", "0.3", False),
            ("50000000000000001", "50000000000000000", False), ("1 a", "1.0 a", False),
            ("nan", "nan", True), ("nan", "NaN", False), ("inf", "Infinity", True), ("", "", True),
            ("", "0", False), ("1_0", "10", True),
        )
    ],
    "time": [
        reads("while True: pass", False),
        reads(READ + "print(2 * n)\nwhile True:\n    try:\n        while True: pass\n"
              "    except BaseException: pass", False),
        method("while True: pass", False),
    ],
    "arguments": [
        method("return sum(a[0]) + a[1]", True),
        method("return a[0]", True, '"é\\n漢"', '"é\\n漢"'),
        method("return a == (None, True, {'k': [1.5]})", True, 'null\ntrue\n{"k": [1.5]}', "true"),
        method("return len(a)", False, "1\n", "1"),
        method("return input()", False),
    ],
    "function": [
        called("def total(xs, y): return sum(xs) + y", True),
        called("class Solution:\n    total = lambda self, xs, y: sum(xs) + y", True),
        called("class Solution:\n    @staticmethod\n    def total(xs, y): return sum(xs) + y", True),
        called("class Solution:\n    def __init__(self): self.k = 3\n"
               "    def total(self, xs, y): return sum(xs) + self.k", True),
        called("def total(xs, y): return sum(xs) + y\nclass Solution: pass", True),
        called("class Solution:\n    def sum(self, xs, y): return 6", False),
        called("class Solution:\n    def __init__(self, k): pass\n    def total(self, *a): return 6", False),
        called("def total(xs, y):\n    print('debug')\n    return sum(xs) + y\nprint('\\n\\n7')", True),
    ],
    "results": [
        method(f"return {got}", right, "0", wanted)
        for got, wanted, right in (
            ("(1, 2)", "[1, 2]", True), ("[(1, 2)]", "[[1, 2]]", True), ("[1, 2]", "[2, 1]", False),
            ("2.0", "2", True), ("2", "2.0", True), ("True", "1", True), ("1", "true", True),
            ("None", "null", True), ("0", "null", False), ("'a'", '"a"', True), ("'1'", "1", False),
            ("0.1 + 0.2", "0.3", False), ("0.1 + 0.2", "0.30000000000000004", True),
            ("{'a': 1}", '{"a": 1}', True), ("{1, 2}", "[1, 2]", False), ("iter([1])", "[1]", False),
            ("deque([1])", "[1]", False), ("float('nan')", "1", False),
            ("__import__('fractions').Fraction(4, 2)", "2", True),
            ("__import__('decimal').Decimal('0.5')", "0.5", True),
            ("__import__('decimal').Decimal('0.1')", "0.1", False),
            ("type('E', (), {'__eq__': lambda *a: True})()", "6", False),
            ("type('E', (int,), {'__eq__': lambda *a: True})(5)", "6", False),
        )
    ],
}  # fmt: skip


def human(body, right, test="    assert candidate(2) == 4\n", prompt='def f(x):\n    """Doc."""\n'):
    doc = {"question": prompt, "test": f"def check(candidate):\n{test}", "entry_point": "f"}
    return body, doc, right


SQUARE = "def f(x):\n    return x * x\n"
HELPED = 'import math\ndef g(x):\n    return x\ndef f(x):\n    """Doc."""\n'
TRUE = "type('E', (), {'__eq__': lambda *a: True})()"
HUMANEVAL = {
    "program": [
        human(SQUARE, True),
        human("    return x * x", True),
        human("return x * x", True),
        human("    y = x\n    return x * y\ndef g(): pass", True),
        human("f = lambda x: x * x", True),
        human("from __future__ import annotations\nimport os\ndef f(x: X) -> Y:\n    return x * x", True),
        human("def g(x):\n    return x * x", False),
        human("    def f(x):\n        return x * x", True),
        human("def f(x: return", False),
    ],
    "names": [
        human("def f(x):\n    return int(math.pow(g(x), 2))", True, prompt=HELPED),
        human("def f(x):\n    return sqrt(x)", False),
        human(SQUARE, True, "    assert candidate(g(2)) == 4\n", HELPED),
        human("def f(x):\n    return x * x if __name__ == 'builtins' else 0", True),
        human(SQUARE + "if __name__ == '__main__':\n    f(input())", True),
    ],
    "exit": [
        *(
            human(SQUARE + leave, False)
            for leave in ("exit()", "quit()", "import sys; sys.exit()", "raise SystemExit", "import os; os._exit(0)")
        ),
        human("import os, sys\ndef f(x):\n    os._exit(0)", False),
        human("import sys\ndef f(x):\n    sys.exit(0)", False),
        human(SQUARE + "raise KeyboardInterrupt", False),
        human(SQUARE + "1 / 0", False),
    ],
    "input": [human(SQUARE + "print(f(3))", True), human(SQUARE + "input()", False)],
    "recursion": [
        human("def f(x, n=900):\n    return f(x, n - 1) if n else x * x", True),
        human("def f(x, n=1100):\n    return f(x, n - 1) if n else x * x", False),
    ],
    "time": [human("def f(x):\n    while True: pass", False), human(SQUARE + "while True: pass", False)],
    "check": [
        human(f"def f(x): return {got}", right, f"    assert candidate(2) == {wanted}\n")
        for got, wanted, right in (
            ("(1, 2)", "(1, 2)", True), ("[1, 2]", "(1, 2)", False), ("[(1,)]", "[[1]]", False),
            ("{1: {2}}", "{1: {2}}", True), ("None", "None", True), ("1", "True", True),
            ("1 / 3", "1 / 3", True), ("10**5000", "10**5000", True), ("b'a'", "b'a'", True),
            ("2j", "2j", True), ("frozenset([1])", "{1}", True), ("'é'", "'é'", True),
            ("__import__('collections').Counter('a')", "{'a': 1}", True),
            ("iter([1])", "[1]", False), ("map(int, '1')", "[1]", False), ("range(2)", "[0, 1]", False),
        )
    ] + [
        human("def f(x):\n    raise ValueError", True,
              "    try:\n        candidate(2)\n    except ValueError: return\n    assert 0\n"),
        human("def f(x, *, y=1):\n    return x * y", True, "    assert candidate(2, y=2) == 4\n"),
        human(SQUARE, False, "    assert candidate(2) == 5\n"),
        human(SQUARE, True, "    import random\n    for _ in range(99):\n        x = random.random()\n"
              "        assert abs(candidate(x) - x * x) < 1e-9\n"),
    ],
    "tampering": [
        human(f"def f(x): return {TRUE}", False),
        human(f"def f(x): return [{TRUE}]", False, "    assert candidate(2) == [4]\n"),
        human("def f(x): return type('E', (int,), {'__eq__': lambda *a: True})(5)", False),
        human("import builtins\nbuiltins.AssertionError = Warning\ndef f(x): return 5", False),
        human("import sys\nsys.settrace(lambda *a: None)\ndef check(c): pass\ndef f(x): return 5", False),
        human("import sys, os\nsys.excepthook = lambda *a: os._exit(0)\ndef f(x): return 5", False),
        human("import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 5", False),
        human("import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return 5", False),
        human("import os\ndef f(x):\n    os.kill(-1, 14)\n    os._exit(0)", False),
        human("import os\ndef f(x):\n    for d in range(3, 32):\n        try: os.write(d, b'4\\n' * 99)\n"
              "        except OSError: pass\n    os._exit(0)", False, "    assert candidate(2) == 5\n"),
        human("def f(x):\n    import sys, re\n    frame = sys._getframe()\n    while frame:\n"
              "        found = re.search(r'candidate\\(2\\) == (\\d+)', str(frame.f_locals))\n"
              "        if found: return int(found[1])\n        frame = frame.f_back", False,
              "    assert candidate(2) == 4444\n"),
        human("def f(x):\n    import os\n    try: os.lseek(0, 0, 0)\n    except OSError: pass\n"
              "    return 4444 if b'4444' in os.read(0, 9999) else 0", False,
              "    assert candidate(2) == 4444\n"),
        human("import ctypes, os\ndef f(x):\n    r = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\n"
              "    return 4 if r == 0 else 0", False),
        human("def f(x):\n    import os\n    os._exit(0)", False,
              "    try:\n        candidate(2)\n    except ValueError: return\n"),
    ],
}  # fmt: skip


def rows(heading):
    """The first cells of the table under a heading of the page."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [cell.strip("`") for cell in re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)][2:]


def test_each_row_of_the_page_has_its_cases():
    assert rows("LiveCodeBench") == list(LIVECODEBENCH)
    assert rows("HumanEval") == list(HUMANEVAL)


def flat(cases):
    return [
        pytest.param(*found, id=f"{row}-{n}")
        for row, of in cases.items()
        for n, found in enumerate(of)
    ]


@pytest.mark.parametrize(("program", "tests", "function", "right"), flat(LIVECODEBENCH))
def test_livecodebench(program, tests, function, right, monkeypatch):
    if "while True" in program:
        monkeypatch.setattr(livecode, "TEST_S", 0.5)
    doc = {"public_tests": json.dumps(tests), "private_tests": "[]", "function": function}
    assert livecode_correct(f"```python\n{program}\n```", doc) is right


@pytest.mark.parametrize(("program", "doc", "right"), flat(HUMANEVAL))
def test_humaneval(program, doc, right, monkeypatch):
    if "while True" in program:
        monkeypatch.setattr(programs, "CHECK_S", 0.5)
    assert check_correct(f"```python\n{program}\n```", doc) is right
