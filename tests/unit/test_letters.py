# ruff: noqa: E501  # answers in lines
"""Letters as answers state them, beside what simple-evals reads from GPQA's prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2r.evaluation.graders import letter_correct

D = [
    "Answer: D", "answer: D", "Answer: d", "ANSWER: D", "Answer : D", "Answer:D", "Answer: D.", "Answer: D)", "Answer: $D$", "Answer: $D",
    "Answer: (D)", "Answer: [D]", "Answer: **D**", "**Answer: D**", "**Answer:** D", "**Answer**: D", "Answer: `D`", "Answer: 'D'",
    r"Answer: $\text{D}$", r"Answer: $\textbf{D}$", r"Answer: $\mathrm{D}$", r"Answer: \(D\)", r"Answer: \(\text{D}\)", r"Answer: $\boxed{D}$", r"Answer: \boxed{\text{D}}",
    "Answer: D) 3.2 eV", "Answer: D. Because A is wrong", "Answer: Option D", "Answer: option (D)", "Answer:\n\nD", "### Final Answer:\n\nD",
    "The answer is D", "The answer is D.", "The answer is: D", "The answer is (D).", "The correct answer is **D**", r"The correct answer is $\text{D}$.",
    "The correct option is D.", "The best choice is (D)", "The answer is option D", "The final answer is: option D", "Answer choice: D", "Answer = D",
    r"\boxed{D}", r"\boxed{d}", r"\boxed{(D)}", r"\boxed{\text{D}}", r"\boxed{\text{Option D}}", r"\boxed{\text{(D)}}", r"\boxed{D) foo}", r"\boxed{D. foo}", r"\boxed{D: foo}",
    r"\boxed{\text{D) foo}}", r"\boxed{\textbf{D}}", r"\boxed{\mathbf{D}}", r"\boxed{Option D}", r"\boxed{\text{Answer: D}}", r"\boxed{**D**}", r"\boxed D", r"\fbox{D}", r"$\boxed{\text{D}}$.",
    "**D**", "(D)", "(D).", r"$\text{D}$", "$D$", "**(D)**", "**D.**", "[D]", r"\(D\)", "**Option D**",
    r"Answer: A? \boxed{D}", r"\boxed{A}. Wait. Answer: D", r"\boxed{R} Answer: D", r"Answer: D \boxed{R}", r"Answer: D, as \boxed{17} shows", r"\boxed{A} \boxed{D} \boxed{}",
    "Answer: A. No.\nAnswer: D", r"\boxed{R}" + "\nThe answer is D", r"Answer: D. So \boxed{E = mc^2}",
]  # fmt: skip


@pytest.mark.parametrize("text", D)
def test_stated(text):
    told = f"Answer: C, or \\boxed{{B}}?</think>So:\n{text}"
    assert [letter for letter in "ABCD" if letter_correct(told, letter)] == ["D"]


@pytest.mark.parametrize(
    "text",
    [
        "", "D", "A, B and C are wrong.", "The answer is Because", "Answer: $LETTER", r"\boxed{A field}", r"\boxed{AB}", r"\boxed{R}",
        "The answer is a matter of taste", "Answer: a long story", "I answered D", r"\boxed{\text{A and B}}", "Answer: E", r"\boxed{}",
        "Answer: Apple", "Answer: Dog", "It is (D) that is wrong.", r"\boxed{17}",
    ],
)  # fmt: skip
def test_no_letter(text):
    assert not any(letter_correct(text, letter) for letter in "ABCD")


@given(st.text("AaBDd :*$(){}\\boxedtextanswer\n.", max_size=120))
def test_any_text(text):
    assert sum(letter_correct(text, letter) for letter in "ABCD") <= 1
