"""Programs as answers: which count as right, and what becomes of hostile ones."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from benchmark_files import CHECK, case, packed
from test_tasks import SHARED

from r2r.errors import ConfigError
from r2r.evaluation import livecode, programs, sources
from r2r.evaluation.livecode import livecode_correct, read_tests, same_output
from r2r.evaluation.programs import check_correct
from r2r.evaluation.sandbox import run_program

try:
    run_program("", timeout_s=60, memory_mb=256)
except ConfigError as error:
    pytest.skip(str(error), allow_module_level=True)

DOUBLE = "print(2 * int(input()))"
TOTAL = "class Solution:\n    def total(self, xs: List[int], y: int) -> int:\n        return {}"


def fenced(program, language="python"):
    return f"thoughts</think>So:\n```{language}\n{program}\n```\n"


def livecode_doc(*tests, function=""):
    return {
        "public_tests": json.dumps(tests[:1]),
        "private_tests": packed(list(tests[1:])),
        "function": function,
    }


STDIN = livecode_doc(case("2\n", "4\n"), case("21\n", "42\n"))
FUNCTION = livecode_doc(
    case("[1, 2]\n3", "6", "functional"), case("[]\n0", "0", "functional"), function="total"
)


# LiveCodeBench


@pytest.mark.parametrize(
    ("program", "right"),
    [
        (DOUBLE, True),
        ("from __future__ import annotations\n" + DOUBLE, True),
        ("import sys\nprint(2 * int(sys.stdin.readline()), end='  ')", True),
        ("print(f'{2 * int(input()):.2f}')", True),
        ("def main():\n    " + DOUBLE + "\nif __name__ == '__main__':\n    main()", True),
        (
            "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\n"
            f"def main():\n    {DOUBLE}\nt = threading.Thread(target=main)\nt.start()\nt.join()",
            True,
        ),
        ("print(4)", False),
        (DOUBLE + "\nprint('done')", False),
        ("print(", False),
    ],
)
def test_programs_that_read_and_write(program, right):
    assert livecode_correct(fenced(program), STDIN) is right


@pytest.mark.parametrize(
    ("program", "right"),
    [
        (TOTAL.format("sum(xs) + y"), True),
        ("def total(xs, y):\n    print('debug')\n    return sum(xs) + y", True),
        (TOTAL.format("sum(xs)"), False),
        (TOTAL.format("{1}"), False),
        ("class Solution:\n    pass", False),
        (TOTAL.format("0") + "\nprint(6)\nimport os\nos._exit(0)", False),
    ],
)
def test_functions_that_are_called(program, right):
    assert livecode_correct(fenced(program), FUNCTION) is right


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [
        ("1 2\n3\n", "1 2 \n3", True),
        ("0.50", "0.5", True),
        ("1e3", "1000", True),
        ("YES", "yes", False),
        ("1\n2", "1 2", False),
        ("1\n\n2", "1\n2", False),
        ("nan", "x", False),
        ("snan", "1", False),
        ("", "", True),
    ],
)
def test_outputs_are_compared_line_by_line(got, wanted, same):
    assert same_output(got, wanted) is same


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
def test_the_few_shot_records_of_livecodebench(tmp_path):
    folder = SHARED / "livecodebench"
    triplets, append = json.loads((folder / "lcb_fewshot_func.json").read_text())
    gifts, phones = json.loads((folder / "lcb_fewshot_stdin.json").read_text())
    asked = gifts["question"].partition("-----Example-----\nInput\n")[2].partition("-----Note")[0]
    given, _, wanted = asked.partition("Output\n")
    records = [
        (triplets, "unequalTriplets", [case("[4,4,2,4,3]", "3", "functional")]),
        (append, "appendCharacters", [case('"coaching"\n"coding"', "4", "functional")]),
        (gifts, "", [case(given, wanted)]),
        (phones, "", [case("11\n00000000008\n", "1\n"), case("11\n31415926535", "0")]),
    ]
    for shot, function, tests in records:
        row = {
            "question_id": "q", "question_content": shot["question"], "difficulty": "easy",
            "contest_date": "2024-09-01T00:00:00", "starter_code": shot.get("sample_code", ""),
            "public_test_cases": json.dumps(tests), "private_test_cases": packed(tests),
            "metadata": json.dumps({"func_name": function} if function else {}),
        }  # fmt: skip
        path = tmp_path / "test5.jsonl"
        path.write_text(json.dumps(row))
        (doc,) = sources.problems("livecodebench", "test", {"livecodebench": str(path)})
        assert livecode_correct(fenced(shot["answer"]), doc)
        wrong = [test | {"output": "12345"} for test in tests]
        assert not livecode_correct(fenced(shot["answer"]), doc | {"private_tests": packed(wrong)})


def test_unpacking_tests():
    tests = [case("1", "2")]
    assert read_tests("[]", packed(tests)) == read_tests(json.dumps(tests), "[]") == tests


# Hostile programs, each of which would print the right answer if its attack went through


def hostile(tmp_path, port):
    outside = tmp_path / "outside"
    me = os.getpid()
    return {
        "endless loop": "while True: pass",
        "sleep": "import time\ntime.sleep(3600)",
        "deaf to signals": "import signal\n[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]"
        "\nwhile True: pass",
        "fork bomb": "import os\nwhile True: os.fork()",
        "thread bomb": "import threading, time\nfor _ in range(10**4):"
        " threading.Thread(target=time.sleep, args=(9,)).start()",
        "memory": "x = bytearray(10**11)",
        "memory by and by": "x = []\nwhile True: x.append(bytearray(10**7))",
        "recursion": "def f(): return f() + 1\nf()",
        "huge output": "while True: print('4' * 10**6)",
        "huge file": "f = open('x', 'w')\nwhile True: f.write('a' * 10**6)",
        "many files": "f = [open(str(n), 'w') for n in range(10**4)]",
        "file outside": f"open({str(outside)!r}, 'w').write('here')",
        "file in /tmp": "open('/tmp/r2r-hostile', 'w').write('here')",
        "delete": f"import os\nos.remove({str(tmp_path / 'keep')!r})",
        "read a file": f"assert open({str(tmp_path / 'keep')!r}).read()",
        "environment": "import os\nassert os.environ['R2R_TEST_SECRET']",
        "parent's environment": f"assert open('/proc/{me}/environ').read()",
        "network": f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)",
        "kill the parent": f"import os\nos.kill({me}, 9)\nos.kill(os.getppid(), 9)",
        "kill all": "import os\nos.kill(-1, 9)",
        "another program": "import subprocess\nsubprocess.run(['/usr/bin/env', 'sh'], check=True)",
        "leave the root": "import os\nos.chroot('.')",
        "mount": "import ctypes\nassert ctypes.CDLL(None).mount(b't', b'.', b'tmpfs', 0, b'') == 0",
        "trace": f"import ctypes\nassert ctypes.CDLL(None).ptrace(16, {me}, 0, 0) == 0",
        "shut down": "import ctypes\nassert ctypes.CDLL(None).reboot(0x4321FEDC) == 0",
        "crash": "import ctypes\nctypes.string_at(0)",
    }


@pytest.mark.slow
def test_hostile_programs_are_contained_and_count_as_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("R2R_TEST_SECRET", "secret")
    monkeypatch.setattr(livecode, "WAIT_S", 0.0)
    monkeypatch.setattr(livecode, "TEST_S", 1.0)
    (tmp_path / "keep").write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        attacks = hostile(tmp_path, server.getsockname()[1])
        assert len(attacks) >= 12
        for name, attack in attacks.items():
            assert not livecode_correct(fenced(f"{attack}\n{DOUBLE}"), STDIN), name
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert os.listdir(tmp_path) == ["keep"] and (tmp_path / "keep").read_text() == "mine"
    assert not Path("/tmp/r2r-hostile").exists()
    monkeypatch.undo()
    assert livecode_correct(fenced(DOUBLE), STDIN)


# HumanEval


HUMAN_EVAL = {
    "question": 'import math\ndef helper(x):\n    return x\ndef f(x):\n    """Square."""\n',
    "test": CHECK,
    "entry_point": "f",
}


@pytest.mark.parametrize(
    ("program", "right"),
    [
        ("def f(x):\n    return x * x", True),
        ("    return x * x", True),
        ("def f(x):\n    return int(math.sqrt(x ** 4)) if helper(x) else 0", True),
        ("f = lambda x: x * x\nprint('an example:', f(2))", True),
        ("def f(x):\n    return 2 * x", False),
        ("def g(x):\n    return x * x", False),
        ("def f(x):\n    return x * x\nimport sys\nsys.exit(0)", False),
        ("def f(x):\n    import os\n    os._exit(0)", False),
        ("def f(x):\n    while True: pass", False),
        ("def f(x: return", False),
    ],
)
def test_functions_are_checked(program, right, monkeypatch):
    if "while" in program:
        monkeypatch.setattr(programs, "CHECK_S", 1.0)
    assert check_correct(fenced(program), HUMAN_EVAL) is right


def human_eval():
    path = SHARED / "humaneval" / "HumanEval.jsonl.gz"
    return sources.problems("humaneval", "test", {"humaneval": str(path)})


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
def test_every_canonical_solution_of_humaneval_passes():
    docs = human_eval()
    with ThreadPoolExecutor(4) as pool:
        passed = list(pool.map(lambda d: check_correct(fenced(d["answer"]), d), docs))
    assert passed == [True] * 164


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared benchmark data")
def test_a_solution_of_another_problem_does_not_pass():
    first, second, *_ = human_eval()
    assert not check_correct(fenced(second["answer"]), first)
