# ruff: noqa: E501  # answers in lines
r"""Boxes and what is in them: every way to write the gold, and what only looks like it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2r.evaluation import equality
from r2r.evaluation.boxes import boxes
from r2r.evaluation.graders import boxed_correct, letter_correct, number_correct
from r2r.evaluation.values import value


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        ("18", [
            "18", "18.", "18.0", "18.00", "+18", "018", " 18 ", "18 dollars", "18 Dollars.", "$18", r"\$18",
            r"\$ 18", "€18", r"18\$", r"18\text{ dollars}", r"18 \text{ cm}^2", "18 cm^2", r"18\,\mathrm{kg}",
            "18 km/h", "**18**", "$18$", r"\(18\)", r"\text{18}", r"\textbf{18}", r"\boxed{18}", "{18}", "n = 18",
            r"\frac{36}{2}", r"\dfrac{36}2", "36/2", r"18^\circ", "18°", r"18^{\circ}", "18 degrees",
            r"18\%", "18%", "18 %", "18 percent", r"18\text{ percent}", r"3\cdot 6", r"\sqrt{324}", "x=18",
        ]),
        ("-18", ["-18", "−18", "-18.0", r"-\frac{36}{2}", r"\frac{-36}{2}", r"-\$18", r"\$-18", "-18 apples"]),
        ("1000", ["1000", "1,000", r"1\,000", "1{,}000", r"1,\!000", "1 000", "1 000", r"1\ 000", "1~000", r"\$1,000.00", "1000 m"]),
        ("1,234,567", ["1234567", r"1\,234\,567", "1{,}234{,}567", "1 234 567"]),
        ("90", ["90°", r"90^\circ", r"90^{\circ}", r"90\degree", "90 degrees", r"90\text{ degrees}"]),
        (r"90^\circ", ["90", "90°", r"90.0^\circ"]),
        ("50", ["50%", r"50\%", "50 percent"]),
        (r"50\%", ["50", "50%", "0.5", r"\frac12", r"\frac{1}{2}", "1/2", ".5"]),
        ("0.5", ["50%", "1/2", ".5", "0.50", r"\frac{1}{2}", "0.5%"]),
        (r"\frac13", ["1/3", "0.333333", "0.33333333", r"\frac{1}{3}", r"\tfrac13", r"\frac{2}{6}"]),
        (r"\$5.40", ["5.4", "5.40", r"\$5.4", "5.40 dollars"]),
        (r"\text{Evelyn}", ["Evelyn", r"\textbf{Evelyn}", r"\text{Evelyn}."]),
        (r"\text{(C)}", ["C", "(C)", r"\text{C}"]),
        ("(3, \\pi)", [r"(3,\pi)", r"\left(3, \pi\right)", r"\left( 3 , \pi \right)."]),
        (r"\{1, 2\}", [r"\{2, 1\}", r"\left\{1, 2\right\}", "1, 2"]),
        ("1, 2", ["2,1", "1, 2", r"1 \text{ and } 2", "(1, 2)"]),
        ("[1, 2)", ["[1,2)", r"\left[1,2\right)"]),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", [r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1.0\\2\end{pmatrix}"]),
        ("x + 1", ["1 + x", "x+1", "(x+1)"]),
        ("5", ["x = 5", "5"]),
        (r"\frac1{2^{99}}", [r"2^{-99}", r"\frac{1}{2^{99}}", r"\frac{2}{2^{100}}"]),
        (r"\sqrt2", ["1.41421356", r"2^{1/2}", r"\frac{2}{\sqrt{2}}"]),
        ("10^{200}", ["10^{200}", r"100^{100}"]),
    ],
)  # fmt: skip
def test_however_it_is_written(gold, answers):
    wrong = [answer for answer in answers if not boxed_correct(f"So \\boxed{{{answer}}}.", gold)]
    assert not wrong


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        ("18", [
            "1.8", "180", "-18", "81", "18 or 19", "18, 19", r"18\text{ or }19", "18 million", "18 thousand",
            r"18\pi", "18x", "18 pi", "18/5", "18!", "18.5", "18.0000001", "1 8", r"\frac{1}{8}", "x > 18",
            "18 or more", "one 18", "0.18", "1/18", "180%", "", "?", r"\text{18 or 19}", "2^{18}", "18e2", "18,0",
        ]),
        ("1000", ["1,00", "10,00", "1.000", "1,0000", "1, 000, 00"]),
        ("50", ["0.5", "0.5%", r"\frac12", "5%"]),
        (r"50\%", ["5", "0.05", r"\frac15"]),
        (r"\frac13", ["0.33", "0.3333", "0.333334", "3", "0.3"]),
        ("0.1234567", ["0.1234568", "0.123457"]),
        (r"\frac1{3000000}", ["0", "0.000000", "0.0000003"]),
        (r"\frac1{2^{99}}", [r"\frac1{2^{98}}", "0", "0.0", "10^{-30}", r"-\frac1{2^{99}}"]),
        (r"x^2 + \frac1{2^{99}}", [r"x^2+\frac1{2^{98}}", "x^2"]),
        (r"(1, \frac1{2^{99}})", [r"(1, \frac1{2^{98}})"]),
        (r"\{1, \frac1{2^{99}}\}", [r"\{1, \frac1{2^{98}}\}"]),
        (r"[0, \frac1{2^{99}}]", [r"[0, \frac1{2^{98}}]"]),
        (r"\begin{pmatrix} 10^{-20} \\ 2 \end{pmatrix}", [r"\begin{pmatrix} 10^{-21} \\ 2 \end{pmatrix}"]),
        (r"x = \frac1{2^{99}}", [r"x = \frac1{2^{98}}", r"\frac1{2^{98}}"]),
        (r"\sqrt{2} \cdot 10^{-20}", [r"\sqrt{3} \cdot 10^{-20}"]),
        ("10^{200}", ["10^{200}+1", "10^{201}", "10^{200}-1"]),
        (r"\sqrt{10^{60}+1}", [r"\sqrt{10^{60}}", "10^{30}"]),
        ("1" * 40, ["1" * 39 + "2"]),
        ("[1, 2)", ["[1,2]", "(1,2)", "(1,2]"]),
        ("(1, 2)", ["(2, 1)", "[1, 2]"]),
        (r"(-\infty, 2)", [r"(-\infty, 2]"]),
    ],
)  # fmt: skip
def test_what_only_looks_like_it(gold, answers):
    right = [answer for answer in answers if boxed_correct(f"So \\boxed{{{answer}}}.", gold)]
    assert not right


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{18}",
        r"\boxed {18}",
        "\\boxed\n{18}",
        r"\boxed 18",
        r"\boxed18",
        r"$\boxed 18$",
        r"\boxed -18 no, \boxed 18.",
        r"\fbox{18}",
        r"\boxed{\boxed{18}}",
        r"\boxed{12}, no: \boxed{18}",
        r"\boxed{18} \boxed{}",
        r"\boxed{18} and then \boxed{ } \boxed{\text{}} \boxed{\,} \fbox{$$}",
        r"\boxed{18} \boxed{12",
        r"\boxed{18} \boxed{{12}",
        r"} \boxed{18} {",
        r"{{{ \boxed{18}",
        r"\boxed{12 \boxed{18}",
        r"\boxed{18}. Put it in \boxed",
        r"\boxed{18} \unboxed{12} \boxedness 12",
        r"\boxed{3}</think>\boxed{18}",
    ],
)
def test_the_last_box_that_holds_something(text):
    assert boxed_correct(text, "18")
    assert not boxed_correct(text, "12")


def test_escaped_braces_are_content():
    assert [inner for _, inner in boxes(r"\boxed{\{1, 2\}}")] == [r"\{1, 2\}"]
    assert [inner for _, inner in boxes(r"\boxed{\left\{ 1 \right.} }")] == [r"\left\{ 1 \right."]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (r"\boxed{18}", True),
        ("So 9 + 9 = 18\n#### 18", True),
        ("#### 18 dollars\n", True),
        ("#### $18.00", True),
        ("The answer is 18.", True),
        ("The final answer is **$18**.", True),
        ("**Answer:** 18 dollars", True),
        ("The answer is 12. No, the answer is 18", True),
        ("#### 12\nThe answer is 18", True),
        ("the answer is 1,018", False),
        (r"#### 18, or rather \boxed{12}", False),
        ("18", False),
        ("9 + 9 = 18", False),
        ("#### ", False),
        ("#### 18</think>", False),
        ("The answer is eighteen", False),
    ],
)
def test_gsm8k_without_a_box(text, right):
    assert number_correct(text, "18") is right
    assert not right or "boxed" in text or not boxed_correct(text, "18")


@settings(max_examples=300)
@given(st.text("0123456789.,/%$\\{}+-*^°cirtexfa !~\n", max_size=60))
def test_any_text_has_a_value_or_none(text):
    assert value(text) is None or value(text) == value(f" {text} ")


@settings(max_examples=200)
@given(st.text("\\boxedf{}18 $\n", max_size=200))
def test_any_text_has_boxes(text):
    for start, inner in boxes(text):
        assert text[start] == "\\" and inner in text and inner.strip()


@settings(deadline=None, max_examples=40)
@given(st.text("0123456789xyi.,/%$\\{}()[]+-*^_=<>!&|~ fracsqrtpileft", max_size=40))
def test_no_answer_raises_or_hangs(answer):
    for gold in ("18", r"\frac{1}{2}", "(3, x)"):
        assert boxed_correct(f"\\boxed{{{answer}}}", gold) in (True, False)


PIECES = (r"\boxed{", "{", "}", r"\boxed{}", r"\boxed{1}", r"\boxed", "\\", r"\boxed{a", "####", "#### 1\n",
          "answer", "answer is ", "Answer: ", "answer**", "(", " ", "$", "$\\text{", "A", "Answer: (", "Option A ",
          "**", "\n", "</think>", "Answer:\n", "answer is option ")  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("grade", [boxed_correct, number_correct, letter_correct])
def test_the_time_grows_with_the_length(grade, piece):
    def seconds(length):
        began = time.process_time()
        grade(piece * (length // len(piece)), "A" if grade is letter_correct else "18")
        return time.process_time() - began

    def grows() -> bool:
        """Sixteen times the length takes sixteen times as long; with the square, 256 times."""
        return seconds(200_000) >= 64 * max(seconds(12_500), 0.005)

    seconds(1_000)
    assert not all(grows() for _ in range(3))  # what else the machine does disturbs one of them


def test_time_of_math_verify_is_processor_time(monkeypatch):
    equality.stop()
    monkeypatch.setattr(equality, "ANSWER_S", 1)
    began = time.monotonic()
    assert not boxed_correct(r"\boxed{9^{9^{9^9}} + x}", "73")
    assert time.monotonic() - began < 60
    equality.stop()
