"""lm-eval's own command line with our model: r2r-eval --model r2r --model_args pair=nano,system=llm

``--model_args`` are overrides of the project's config, comma-separated (``threshold=0.1``,
``router=mlp``, ...), and ``system`` (slm, llm, routed or a middle model; routed by default). The
routed system uses the router that ``python run.py`` trained for the same config.
"""

from __future__ import annotations

import sys

from lm_eval.api.registry import register_model

from r2r.errors import ConfigError
from r2r.evaluation.adapter import R2RLM
from r2r.evaluation.harness import TASKS


@register_model("r2r")
class ConfiguredLM(R2RLM):
    """The adapter, made from a config instead of a generator."""

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict | None = None
    ) -> R2RLM:
        overrides = [part for part in arg_string.split(",") if part]
        return cls.create_from_overrides(overrides)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> R2RLM:
        return cls.create_from_overrides([f"{key}={value}" for key, value in arg_dict.items()])

    @classmethod
    def create_from_overrides(cls, overrides: list[str]) -> R2RLM:
        from r2r.stages.compose import compose
        from r2r.stages.evaluate import language_model
        from r2r.stages.systems import make_generator
        from r2r.stages.workbench import Workbench

        systems = [o.partition("=")[2] for o in overrides if o.startswith("system=")]
        config, router = compose([o for o in overrides if not o.startswith("system=")])
        bench = Workbench(config, router)
        bench.preflight()
        generator, params = make_generator(bench, systems[-1] if systems else "routed")
        return language_model(bench, generator, params)


def main() -> int:
    from lm_eval.__main__ import cli_evaluate

    if "--include_path" not in sys.argv:
        sys.argv += ["--include_path", str(TASKS)]
    try:
        cli_evaluate()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
