"""The label-quality report, as a person reads it."""

from test_labeling import EQUIVALENCE, label

from r2r.labeling.report import Agreement, agreement, write_report


class Strict:
    """Calls everything divergent, and every third token of a query disputed."""

    async def verify(self, comparisons):
        return ["disputed" if n % 3 == 2 else "divergent" for n, _ in enumerate(comparisons)]


def both(tmp_path):
    label(tmp_path / "rule", verifier=EQUIVALENCE)
    label(tmp_path / "model", verifier=Strict(), named="judge")
    return tmp_path / "rule", tmp_path / "model"


def test_the_report_counts_and_shows_examples(tmp_path):
    label(tmp_path / "labels")
    text = write_report(tmp_path / "labels").read_text()
    assert text.startswith("# Labels of 10 queries by equivalence\n")
    assert "| identical | 140 | 77.8 |" in text and "| divergent | 10 | 5.6 |" in text
    assert "Tokens without a label: 20 masked, 0 unverified." in text
    assert "Responses left out: 0 unfinished, 0 no_think_end." in text
    assert "Divergent tokens have 1.0 times the mean entropy of all others." in text
    assert "| `'4'` | 10 | 30 | 33.3 |" in text
    assert text.count("question: question") == 20
    assert "SLM:      So 1+2=«4».\n" in text and "LLM:      So 1+2=«3».\n" in text
    assert "order of presentation" not in text
    assert "No other verifier has labelled the same tokens." in text


def test_two_verifiers_are_compared_token_by_token(tmp_path):
    rule, model = both(tmp_path)
    assert agreement(rule, model) == Agreement(
        one="equivalence", other="judge", neutral=0, divergent=10, only_one=0, only_other=30
    )
    text = write_report(model).read_text()
    assert "judge and equivalence agree on 25.0%: 10 divergent and 0 neutral for both" in text
    assert "order of presentation on 10 (25.0%) of 40 differing tokens" in text


def test_other_tokens_are_not_compared(tmp_path):
    rule, _ = both(tmp_path)
    label(tmp_path / "fewer", count=8, verifier=Strict(), named="judge")
    assert agreement(rule, tmp_path / "fewer") is None
