"""What no fingerprint names changes no label, and no more of a feature than float32 may round."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from r2r.labeling.dataset import Labels
from r2r.stages import fingerprints
from r2r.stages.compose import compose
from r2r.stages.label import _label
from r2r.stages.workbench import Workbench

QUERIES = 6
JOB = [f"labeler.prompts.limit={QUERIES}", "router=mlp", "threshold=0.5"]
HALF = 2.0**-10  # a step of float16, relative: two neighbours at most where float32 is rounded
OPTIONS = {
    "tokens of a forward": ["engine.max_prefill_tokens=7"],
    "all": ["engine.max_prefill_tokens=31", "engine.max_batch=2", "labeler.in_flight=3",
            "labeler.shard_queries=4"],
}  # fmt: skip


def made(folder, *options):
    """Labels under these options: their name, and their columns by name, shard after shard."""
    bench = Workbench(compose([*JOB, f"outputs={folder}/outputs", *options])[0], "mlp")
    _label(bench, folder / "labels")
    labels = Labels.open(folder / "labels")
    columns = {
        name: np.concatenate([shard[name] for shard in labels.shards]) for name in labels.shards[0]
    }
    columns |= {
        name: np.concatenate([part[name] for part in labels.large]) for name in labels.large[0]
    }
    return fingerprints.labels(bench).name, columns


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return made(tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_outside_changes_no_label(name, plain, tmp_path):
    (key, columns), (same, others) = plain, made(tmp_path, *OPTIONS[name])
    assert key == same
    for column, values in columns.items():
        other = others[column]
        assert values.dtype == other.dtype and values.shape == other.shape, column
        if values.dtype == np.float16:
            apart = np.abs(values.astype(float) - other.astype(float))
            scale = np.abs(values.astype(float)).max()
            assert (apart <= 2 * HALF * scale).all(), (column, apart.max(), scale)
        elif "indices" in column:  # whose order among equals is not fixed
            assert np.mean(values == other) > 0.99, column
        else:
            assert (values == other).all(), column


# Options that no fingerprint of the job above names, and why.
OUTSIDE = {
    "time alone, as far as the test above sees": (
        "engine.", "labeler.executor", "labeler.ray.", "labeler.in_flight",
        "labeler.shard_queries", "trainer.accelerator", "trainer.devices", "trainer.strategy",
        "trainer.num_workers", "force",
    ),
    "what it names or points to is in them, by content": (
        "pair.name", "pair.slm.path", "pair.slm.revision", "pair.llm.path", "pair.llm.revision",
        "pair.route_token", "pair.context_length", "pair.router.", "pair.training.", "policy.name",
        "benchmark.name", "benchmark.data_files.", "labeler.prompts.", "target", "tried.",
        "pair.max_new_tokens",
    ),
    "read by another rule, system, temperature or way only": (
        "pair.middle.", "benchmark.train_tasks", "benchmark.top_p", "benchmark.judge.",
        "labeler.judge.", "labeler.bound", "labeler.per_query", "labeler.samples", "labeler.seed",
        "labeler.paths.router", "labeler.paths.threshold", "query_level.",
    ),
    "what is told of them, or what is done beside": (
        "pair.slm.weights_b", "pair.slm.kv_kb", "pair.llm.weights_b", "pair.llm.kv_kb",
        "pair.one_turn", "stages", "systems", "objective", "run", "outputs", "prices.", "logger.",
        "serve.", "report.", "trace.", "plan.", "artifacts.",
    ),
}  # fmt: skip


def leaves(part, path=""):
    """Of a config: each option's name and value, and what sets it."""
    if dataclasses.is_dataclass(part):
        names, put = [field.name for field in dataclasses.fields(part)], partial(setattr, part)
        values = {name: getattr(part, name) for name in names}
    else:
        values, put = part, part.__setitem__
    for name, value in list(values.items()):
        if dataclasses.is_dataclass(value) or (isinstance(value, dict) and value):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value, partial(put, name)


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, "another"] if isinstance(value, list) else "another"


@pytest.mark.slow
def test_each_option_is_in_a_fingerprint_or_said_to_be_outside():
    config, router = compose([*JOB, "benchmark.limit=3", "outputs=/nowhere"])
    bench = Workbench(config, router)
    known = SimpleNamespace(config=config.router, digest="0", version=1, max_score=1, threshold=0.5)
    bench.__dict__["described_router"] = known

    def names():
        made = fingerprints.labels(bench), fingerprints.router(bench)
        return [key.name for key in (*made, fingerprints.evaluation(bench, "routed"))]

    plain, unseen = names(), set()
    for option, value, put in leaves(config):
        put(another(value))
        try:
            if names() == plain:
                unseen.add(option)
        except Exception:
            continue  # where it is no value at all, it is read
        finally:
            put(value)
    said = [prefix for group in OUTSIDE.values() for prefix in group]
    of = {prefix: {o for o in unseen if o == prefix or (prefix[-1] == "." and o.startswith(prefix))}
          for prefix in said}  # fmt: skip
    assert not unseen - set().union(*of.values()), "decide content? then name them in fingerprints"
    assert not [prefix for prefix in said if not of[prefix]], "are in a fingerprint, or gone"
