r"""Answers that are one number, however it is written: compared exactly, without a parser.

Units, currencies and degrees are left out (18 dollars is 18). A percent sign may be missing on
either side, or be worked out: 50\% is 50, 0.5 and \frac12.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

WRAPPERS = (
    ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("__", "__"), ("`", "`"),
    *((rf"\{name}{{", "}") for name in ("boxed", "text", "textbf", "mathrm", "mathbf", "mathit")),
    ("{", "}"),
)  # fmt: skip
SPACE = r"(?:[ \t\n~\u00a0\u2009\u202f]|\\[,;:! ]|\\q?quad(?![a-zA-Z]))"
DIGITS = rf"[0-9]{{1,3}}(?:(?:[,']|\{{,\}}|{SPACE}){{1,3}}[0-9]{{3}})+|[0-9]+"
CURRENCY = r"(?:\\?\$|[€£¥₹]|\\(?:pounds|euro)(?![a-zA-Z])|(?:USD|EUR|US\$))"
PART = r"(?:\{{\s*(?P<{0}>-?[0-9]+)\s*\}}|(?P<{0}_digit>[0-9]))"
NUMBER = re.compile(
    rf"(?P<sign>[-+−–]?){SPACE}*{CURRENCY}?{SPACE}*(?P<inner>[-−]?)"
    rf"(?:\\[dtc]?frac\s*{PART.format('over')}\s*{PART.format('under')}"
    rf"|(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)"
    rf"|(?P<whole>{DIGITS})?(?P<decimals>\.[0-9]*)?)"
    rf"{SPACE}*(?P<unit>.*)",
    re.DOTALL,
)
PERCENT = re.compile(r"\\?%|percent|per cent|\\text\{\s*(?:percent|\\?%)\s*\}", re.IGNORECASE)
WORD = r"[A-Za-zµΩ][A-Za-z/.·-]+"
POWER = r"(?:\s*\^\s*\{?[0-9]\}?|[²³])?"
UNIT = re.compile(
    rf"°[CF]?|\^\s*\{{?\s*\\circ\s*\}}?\s*[CF]?|\\degree|{CURRENCY}"
    rf"|(?:{WORD}{POWER}\s*)+"
    rf"|\\(?:text|textrm|mathrm|mbox|textbf|mathbf)\s*\{{(?P<words>[^0-9{{}}\\]*)\}}{POWER}"
)
CHANGES = re.compile(
    r"(?i)\b(?:or|and|to|not|than|less|more|least|most|half|hundred|thousand|million|billion|"
    r"trillion|dozen|pi|sqrt|infty|infinity|mod|log|ln|sin|cos|tan|exp|times|plus|minus|squared|"
    r"cubed|over|base)\b"
)  # words behind a number that make it another one
MINUS = ("-", "−", "–")
ROUNDED, SIGNIFICANT = 6, 3  # decimals and digits from which a decimal stands for a fraction


@dataclass(frozen=True, slots=True)
class Value:
    """A number; ``ratio``: written as a fraction; ``decimals``: how many it is written with."""

    number: Fraction
    percent: bool
    ratio: bool
    decimals: int


def clean(text: str) -> str:
    """A short answer without what stands around it: white space, $, **, \\text{}, a full stop."""
    before = ""
    while text != before:
        before = text = text.strip(" \t\n~")
        text = text.removesuffix(".") if not text.endswith("..") else text
        for opening, closing in WRAPPERS:
            inner = text[len(opening) : len(text) - len(closing)]
            if (
                len(text) > len(opening) + len(closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and not (set("{}$") & set(inner))
                and opening not in inner
            ):
                text = inner
    return text


def value(text: str) -> Value | None:
    """The number that a short answer is; None where it is anything else."""
    found = NUMBER.fullmatch(clean(text))
    if not found:
        return None
    unit = found["unit"].strip().rstrip(".")
    percent = bool(PERCENT.fullmatch(unit))
    if unit and not percent and (not UNIT.fullmatch(unit) or CHANGES.search(unit)):
        return None
    sign = -1 if (found["sign"] in MINUS) != (found["inner"] in MINUS) else 1
    over = found["top"] or found["over"] or found["over_digit"]
    under = found["bottom"] or found["under"] or found["under_digit"]
    if over:
        return (
            Value(sign * Fraction(int(over), int(under)), percent, True, 0) if int(under) else None
        )
    whole = re.sub("[^0-9]", "", found["whole"] or "")
    decimals = (found["decimals"] or "").removeprefix(".")
    if not whole + decimals:
        return None
    number = Fraction(f"{whole or '0'}.{decimals or '0'}")
    return Value(sign * number, percent, False, len(decimals))


def same(one: Value, other: Value) -> bool:
    """Whether two numbers are equal; a decimal of ``ROUNDED`` places stands for a fraction."""
    worked_out = [each.number / 100 if each.percent else each.number for each in (one, other)]
    if one.number == other.number or worked_out[0] == worked_out[1]:
        return True
    if one.ratio == other.ratio:
        return False
    ratio, decimal = (one, other) if one.ratio else (other, one)
    places = decimal.decimals
    enough = places >= ROUNDED and abs(decimal.number) * 10**places >= 10 ** (SIGNIFICANT - 1)
    return enough and round(ratio.number, places) == decimal.number
