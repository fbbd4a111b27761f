"""What each step gives for small fixed inputs, kept in tests/golden with the step's version.

    python tests/golden_steps.py [STEP ...]

writes the goldens of steps whose version was raised, and of new ones. One whose output differs
though its version does not is refused, unless it is named: that is for new inputs, here, alone.
"""

import json
import sys
from typing import Any

import golden_answers  # noqa: F401 (each puts its steps into STEPS)
import golden_base
import golden_grades  # noqa: F401
import golden_labels  # noqa: F401

from r2r.errors import ConfigError


def fingerprint_parts() -> dict[str, Any]:
    """The composition of each kind of fingerprint, for fixed configs: names, and no values."""
    from types import SimpleNamespace

    from r2r.stages import fingerprints
    from r2r.stages.compose import compose
    from r2r.stages.workbench import Workbench

    def names(value: Any) -> Any:
        return {key: names(each) for key, each in value.items()} if isinstance(value, dict) else ""

    found: dict[str, Any] = {}
    for label, more in (
        ("", []),
        ("judge", ["labeler=judge", "labeler.judge.model=a", "labeler.judge.url=http://a"]),
        ("likelihood", ["labeler=likelihood"]),
        ("outcome", ["labeler=outcome"]),
        ("routed", ["labeler.paths.routed=0.5"]),
    ):
        config, router = compose(["outputs=/nowhere", "threshold=0.5", "router=mlp", *more])
        bench = Workbench(config, router)
        known = SimpleNamespace(
            config=config.router, digest="0", version=1, max_score=1.0, threshold=0.5
        )
        bench.__dict__["described_router"] = known
        systems = ("slm", "routed", "query_sw") if not label else ("llm",)
        keys = {
            f"{label} labels": fingerprints.labels(bench),
            f"{label} router": fingerprints.router(bench),
        }
        if not label:
            keys |= {
                " calibration": fingerprints.calibration(bench),
                " query": fingerprints.query(bench, "query_sw"),
                " traces": fingerprints.traces(bench, ["slm"]),
            }
            keys |= {f" evaluation {s}": fingerprints.evaluation(bench, s) for s in systems}
        found |= {name.strip(): names(key.decides) for name, key in keys.items()}
    return found


def main(named: list[str]) -> int:
    steps, refused = golden_base.STEPS, []
    for each in [steps[name] for name in named if name in steps] or steps.values():
        try:
            now = each.now()
        except ConfigError as error:
            print(f"{each.name}: not written: {error}")
            continue
        kept = json.loads(each.file.read_text()) if each.file.exists() else None
        if kept == now:
            continue
        if kept and kept["version"] == now["version"] and each.name not in named:
            refused.append(each.fault())
            continue
        golden_base.FOLDER.mkdir(exist_ok=True)
        each.file.write_text(json.dumps(now, ensure_ascii=False) + "\n")
        print(f"{each.name}: written at version {now['version']}")
    parts = golden_base.FOLDER / "fingerprints.json"
    if "fingerprints" in named or not parts.exists():
        parts.write_text(json.dumps(fingerprint_parts(), indent=1) + "\n")
        print("fingerprints: written")
    print(*refused, sep="\n")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
