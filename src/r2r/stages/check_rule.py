"""Whether a labelling rule fits what it is to label: found out before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2r.config import Config, LabelerConfig
from r2r.errors import ConfigError, must_be
from r2r.stages.screen import explain

if TYPE_CHECKING:
    from r2r.labeling.controls import Proof

SENTENCES = ("equivalence", "judge")  # rules that compare two sentences
SETTINGS = {"likelihood": ("bound",), "outcome": ("bound", "per_query", "samples", "seed")}


def check_rule(config: Config) -> None:
    """Raises ConfigError where the rule cannot label these prompts, lacks a setting, or has none of
    the sentences that router=oracle goes by."""
    labeler = config.labeler
    oracle = config.router == {"_target_": "r2r.labeling.oracle.Oracle"}
    if oracle and "evaluate" in config.stages and labeler.verifier not in SENTENCES:
        raise must_be("labeler", "a rule that compares sentences", labeler.verifier, SENTENCES)
    if "label" not in config.stages or labeler.path or labeler.labels:
        return
    for name in SETTINGS.get(labeler.verifier, ()):
        if getattr(labeler, name) is None:
            raise must_be(f"labeler.{name}", f"given for labeler={labeler.verifier}", None)
    if labeler.verifier == "outcome":
        if labeler.prompts.data_files or labeler.prompts.dataset:
            wanted = "left out for labeler=outcome, which compares the final answers of a benchmark"
            given = labeler.prompts.data_files or labeler.prompts.dataset
            raise must_be("labeler.prompts", wanted, given)
        from r2r.evaluation.finals import check_finals

        check_finals(config.benchmark)


def check_proof(proof: Proof | None, config: LabelerConfig) -> None:
    """Say how the rule did on the control pairs. Raises ConfigError where it cannot tell them
    apart: its labels would say nothing."""
    if proof is None:
        return
    from r2r.labeling.controls import LEAST

    if proof.score >= LEAST:
        explain("label", f"{config.verifier}: {proof} right")
        return
    needless = "labeler=likelihood or labeler=outcome, which ask nobody"
    key, other = {
        "equivalence": ("labeler.synonyms and labeler.ignored", "the shipped tables"),
        "judge": ("labeler.judge", "a larger judge"),
    }[config.verifier]
    raise ConfigError(
        f"{key} must tell wording from content (score {LEAST} or more), got {proof.score:.2f}:"
        f" {proof} right; take {other}, or {needless}"
    )
