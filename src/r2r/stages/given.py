"""Labels that were made elsewhere, used where they lie (``labeler.labels``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r2r.errors import ConfigError, must_be
from r2r.pairs import ModelPair, load_config
from r2r.records import MANIFEST, fingerprint, read_json

KEY = "labeler.labels"
WHOLE = "a folder of whole labels (outputs/artifacts/labels/... of any machine)"


def given_labels(folder: Path, pair: ModelPair) -> Path:
    """``folder``, once it is found to hold whole labels of the pair; nothing in it is
    changed. What its files hold is checked when they are read.

    Raises ConfigError where it does not, or where it is unknown of which pair they are.
    """
    manifest = _whole(folder)
    try:
        decides = manifest["made"]["decides"]
        # A published training set is copied for an SLM, whatever the LLM.
        theirs = decides["pair"] if "pair" in decides else {"slm": decides["slm"]}
        of = manifest["made"]["pair"]
    except (KeyError, TypeError) as error:
        wanted = "labels whose manifest says of which pair they are (this version's, or a later's)"
        raise must_be(KEY, wanted, str(folder)) from error
    ours = pair.identity()
    differing = sorted(name for name in theirs if theirs[name] != ours.get(name))
    if differing:
        raise ConfigError(
            f"{KEY} must be labels of pair {pair.config.name}, got those of {of} in {folder}"
            f" (differing: {', '.join(differing)})"
        )
    _check_width(pair, folder, manifest)
    return folder


def given_id(folder: Path) -> str:
    """What tells labels from others, wherever they lie."""
    return fingerprint(read_json(folder / MANIFEST)["shards"])


def _whole(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise must_be(KEY, WHOLE, str(folder))
    if any(folder.glob("*.parquet")) or (folder / "dataset_dict.json").exists():
        wanted = f"{WHOLE}; a published training set is labeler.path"
        raise must_be(KEY, wanted, str(folder))
    try:
        manifest = read_json(folder / MANIFEST)
        for shard in manifest["shards"]:
            for name, file in read_json(folder / shard["name"] / MANIFEST)["files"].items():
                path = folder / shard["name"] / name
                if not path.exists() or path.stat().st_size != file["bytes"]:
                    raise must_be(KEY, WHOLE, f"{path} missing or cut off")
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise must_be(KEY, WHOLE, str(folder)) from error
    return manifest


def _check_width(pair: ModelPair, folder: Path, manifest: dict[str, Any]) -> None:
    import numpy as np

    column = "small_last_hidden_states.npy"
    wanted = load_config(pair.models["slm"], "pair.slm").get_text_config().hidden_size
    for shard in manifest["shards"]:
        path = folder / shard["name"] / column
        if path.exists():
            width = np.load(path, mmap_mode="r").shape[1]
            if width != wanted:
                raise must_be(KEY, f"labels of an SLM of width {wanted}", width)
