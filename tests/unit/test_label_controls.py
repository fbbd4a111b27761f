"""A rule shows that it works before it is used."""

import asyncio
import re

import pytest
from test_labeling import label
from test_verify import SHIPPED

from r2r.config import LabelerConfig
from r2r.errors import ConfigError
from r2r.labeling.controls import KINDS, LEAST, PROBLEMS, Proof, comparison, prove
from r2r.labeling.judge import JudgeVerifier
from r2r.labeling.report import write_report
from r2r.labeling.verify import EquivalenceVerifier
from r2r.stages import check_rule
from r2r.stages.check_rule import check_proof

ASKED = 2 * len(KINDS) * len(PROBLEMS)
REWORDED = ("To begin with", "Hence the length", "There are 30")


class Says:
    """A judge that replies ``to(drafts)``; it hears both, as they stand in the prompt."""

    def __init__(self, to):
        self.to, self.asked = to, 0

    async def ask(self, prompts):
        replies = []
        for prompt in prompts:
            self.asked += 1
            replies.append(self.to(re.findall(r"Draft [AB] goes on:\n(.*)\n", prompt)))
        return replies


def reads(drafts):
    one, other = (draft.replace("«", "").replace("»", "") for draft in drafts)
    same = one == other or any(word in one + other for word in REWORDED)
    return "neutral" if same else "divergent"


def proven(to):
    return asyncio.run(prove(JudgeVerifier(Says(to))))


def test_every_pair_is_judged_in_both_orders_and_marked_where_it_differs():
    judge = Says(reads)
    proof = asyncio.run(prove(JudgeVerifier(judge)))
    assert judge.asked == ASKED and proof.score == 1
    assert str(proof).startswith(
        "12 of 12 control pairs (identical 3/3, paraphrase 3/3, number 3/3"
    )
    for problem in PROBLEMS:
        for kind in KINDS:
            pair = comparison(problem, kind)
            assert (pair.slm_sentence, pair.llm_sentence) == problem.drafts(kind)
            assert (pair.slm == pair.llm) == (kind == "identical")


@pytest.mark.parametrize(
    ("to", "score"),
    [
        (lambda drafts: "neutral", 0.5),
        (lambda drafts: "divergent", 0.5),
        (lambda drafts: "I think so", 0.0),
        (lambda drafts: "neutral" if drafts[0] < drafts[1] else "divergent", 0.5),  # by place alone
    ],
    ids=["all neutral", "all divergent", "unreadable", "by place"],
)
def test_a_judge_that_cannot_tell_them_apart_is_refused_with_its_score(to, score):
    proof = proven(to)
    assert proof.score == score < LEAST
    with pytest.raises(ConfigError, match=r"labeler\.judge must tell wording from content") as told:
        check_proof(proof, LabelerConfig(verifier="judge"))
    line = str(told.value)
    assert (f"got {score:.2f}: " in line and "number 0/3" in line) or score == 0.5
    assert "labeler=likelihood or labeler=outcome" in line and "\n" not in line


def test_one_slip_is_no_reason(monkeypatch):
    lines = []
    monkeypatch.setattr(check_rule, "explain", lambda stage, text: lines.append(text))
    proof = proven(lambda drafts: "neutral" if "16" in "".join(drafts) else reads(drafts))
    check_proof(proof, LabelerConfig(verifier="judge"))
    assert lines == [
        "judge: 11 of 12 control pairs (identical 3/3, paraphrase 3/3, number 2/3, operation 3/3)"
        " right"
    ]


def test_the_shipped_tables_pass_and_tables_that_hide_numbers_do_not():
    shipped = EquivalenceVerifier(synonyms=SHIPPED.synonyms, ignored=SHIPPED.ignored)
    proof = asyncio.run(prove(shipped, shipped.controls))
    assert proof.score == 1 and "paraphrase" not in str(proof)
    blind = EquivalenceVerifier(synonyms={"16": "18", "140": "120", "11": "18"}, ignored=["*"])
    proof = asyncio.run(prove(blind, blind.controls))
    with pytest.raises(ConfigError, match=r"labeler\.synonyms and labeler\.ignored must tell"):
        check_proof(proof, LabelerConfig(verifier="equivalence"))


def test_manifest_and_report_say_how_the_rule_did(tmp_path):
    proof = Proof(dict.fromkeys(KINDS, 3), dict.fromkeys(KINDS, 3))
    manifest = label(tmp_path, proof=proof)
    assert manifest["controls"] == proof.to_json() and manifest["controls"]["score"] == 1
    assert Proof.from_json(manifest["controls"]) == proof
    assert (
        f"Before it labelled, the rule judged {proof} right." in write_report(tmp_path).read_text()
    )
