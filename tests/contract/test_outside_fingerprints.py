"""What no fingerprint names changes no label, and no more of a feature than float32 may round."""

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
