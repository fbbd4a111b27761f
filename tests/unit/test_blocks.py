"""Where answers put their programs, and which of several they mean."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2r.evaluation.blocks import READS_INPUT, defines, fenced, find_program

F = defines("f")
SOLUTION = "def f(x):\n    return x\n"
DOCSTRING = 'def f(x):\n    """Say.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x\n'
OUTER_DOCSTRING = '"""\n```\nf(1)\n```\n"""\n' + SOLUTION


def block(code, tag="python", fence="```"):
    return f"{fence}{tag}\n{code}{fence}\n"


@pytest.mark.parametrize(
    "text",
    [
        block(SOLUTION),
        block(SOLUTION, fence="````"),
        block(SOLUTION, fence="~~~"),
        block(SOLUTION, fence="~~~~~"),
        *(
            block(SOLUTION, tag)
            for tag in (
                "", "Python", "python3", "python 3", "py", "py3", "Python3.11", "pypy3", "ipython",
                "{.python}", "{python}", "python title=x", "python:main.py", " python ", "python\r",
            )
        ),
        "Here it is:```python\n" + SOLUTION + "```",
        "```python\n" + SOLUTION.rstrip() + "```",
        "```python\n" + SOLUTION + "``` This is all.\n\nIt works.",
        "```python\n" + SOLUTION,
        "```python\n" + SOLUTION.rstrip(),
        "  ```python\n  def f(x):\n      return x\n  ```",
        "1. The solution:\n\n   ```python\n   def f(x):\n       return x\n   ```\n\n2. Done.",
        "- ```python\n  def f(x):\n      return x\n  ```",
        "* text\n\t```python\n\tdef f(x):\n\t    return x\n\t```",
        "> ```python\n> def f(x):\n>     return x\n> ```\n> It works.",
        "````markdown\n" + block(SOLUTION) + "````",
        "```markdown\n" + block(SOLUTION) + "```",
        block(SOLUTION) + "It runs so:\n" + block("print(f(3))\n"),
        block(SOLUTION) + "It prints\n" + block("3\n", ""),
        block(SOLUTION) + "In C++:\n" + block("int f(int x) { return x; }\n", "cpp"),
        block("int f(int x) { return x; }\n", "cpp") + block(SOLUTION),
        block("def f(x):\n    return 0\n") + "Better:\n" + block(SOLUTION),
        block("def f(x):\n    ...\n") + block(SOLUTION) + block("pip install x\n", "bash"),
        block("def g(x):\n    return 0\n") + block(SOLUTION),
        block("def fx(x):\n    return 0\n") + block(SOLUTION),
        block(SOLUTION, "text"),
        "inline ```f(x)``` and `f`:\n" + block(SOLUTION),
        block(SOLUTION) + "```python\n```",
        "```python\n" + SOLUTION + "```python\nprint(f(2))\n```",
    ],
)  # fmt: skip
def test_the_program_is_found(text):
    found = find_program(f"```python\ndef f(x): return 7\n```</think>So:\n{text}", F)
    assert found is not None and found.replace("\r", "").rstrip() == SOLUTION.rstrip()


@pytest.mark.parametrize("program", [DOCSTRING, OUTER_DOCSTRING])
@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
@pytest.mark.parametrize("after", ["", "```", "\nUse it:\n```python\nf(1)\n```\n'''quotes\n"])
def test_a_docstring_may_hold_a_fence(program, fence, after):
    assert find_program(f"{block(program, fence=fence)}{after}", F) == program


def test_an_answer_of_nothing_but_the_program():
    assert find_program(SOLUTION, F) == SOLUTION


def test_a_docstring_that_never_ends_ends_with_its_block():
    broken = 'def f(x):\n    """Say\n    return x\n'
    assert find_program(block(broken) + block("print(1)\n"), F) == broken


@pytest.mark.parametrize(
    "text", ["no code", block("int x;\n", "cpp"), "```python\n```", "`f`", "", "def g(x): pass"]
)
def test_no_program(text):
    assert find_program(text, F) is None


def test_a_program_that_reads_input_is_the_last_that_does():
    reads = "import sys\nprint(sys.stdin.read())\n"
    for text in (
        block(reads) + block("print(solve(3))\n"),
        block("n = int(input())\n") + block(reads),
        block("3\n", "") + block(reads) + block("3\n", "text"),
    ):
        assert find_program(text, READS_INPUT) == reads
    assert find_program(block("a\n") + block("b\n"), READS_INPUT) == "b\n"


def test_blocks_that_belong_together():
    helper, imports = "def g(x):\n    return x + M\n", "import math\nfrom os import path as p\n"
    constant, other = "M = 7\n", "def h(x):\n    return 0\nh(1)\n"
    solution = "from __future__ import annotations\ndef f(x):\n    return g(math.floor(x))\n"
    text = "".join(map(block, (imports, constant, other, helper, solution, "print(f(3))\n")))
    scope = {}
    exec(find_program(text, F), scope)
    assert scope["f"](3.5) == 10 and "h" not in scope
    assert find_program(block("def f(x):\n    return g(x)\n") + block(helper), F).count("def") == 2
    own = "def g(x):\n    return x\n\ndef f(x):\n    return g(x)\n"
    assert find_program(block(helper) + block(own), F) == own


@given(st.text("`~py\n \t\"'#>-1.fdef(x):\\", max_size=300))
def test_any_text_has_blocks_and_none_raises(text):
    assert all(block.code.count("\n") <= text.count("\n") + 1 for block in fenced(text))
    assert find_program(text, F) is None or isinstance(find_program(text, F), str)


@pytest.mark.parametrize(
    "piece",
    ["```", "```\n", "```python\n", '```python\n"""\n```\n', "> ```\n", "~~~\n'", " ", "`", '"\\',
     "def f(x):\n", "```python\nimport a, b\ndef g(): f\n```\n", "- ", "1. ", "``` x\n", "\n"],
)  # fmt: skip
def test_the_time_grows_with_the_length(piece):
    def seconds(length):
        text = piece * (length // len(piece))
        began = time.process_time()
        find_program(text, F)
        return time.process_time() - began

    assert min(seconds(200_000) for _ in range(3)) < 3  # where it grew with the square: minutes
