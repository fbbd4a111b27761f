"""lm-eval's own command line with our model, r2r-eval: its help, and one line for mistakes."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

import r2r
from r2r.errors import ConfigError, tell

OPTIONS_OF = ("lm_eval._cli", "lm_eval.config", "lm_eval.evaluator", "lm_eval.api.model")
HELP = """\
r2r-eval [lm-eval's options]: lm-evaluation-harness with a routed pair as its
model

  --model_args KEY=VALUE,...  the same as on run.py's command line
                              (python run.py --help), and system=slm, llm,
                              routed (default), a middle model of the pair, or
                              query_*
  --tasks NAME,...            r2r_NAME: our tasks, as run.py scores them, always
                              through the pair's chat template (local data:
                              --model_args
                              benchmark=NAME,benchmark.data_files.NAME=FILE);
                              lm-eval's own and yours (--include_path): as text,
                              or with --apply_chat_template
  --tasks list                all of them (r2r-eval ls tasks)

The routed system uses the router that run.py trained with the same options.
--model is r2r where it is left out; --batch_size and --device set
engine.max_batch and engine.device. --output_path FOLDER keeps the results. All
of lm-eval's options: r2r-eval run --help

  r2r-eval --model_args threshold=0.1 --tasks r2r_nano_math --limit 20
  r2r-eval --model_args system=llm --tasks gsm8k --apply_chat_template
"""


def main() -> int:
    """The command. 2, with one line on stderr, for what its user has to mend."""
    given = sys.argv[1:]
    if given in ([], ["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    if given == ["--version"]:
        from importlib.metadata import version

        print(f"r2r {r2r.__version__}, lm-eval {version('lm-eval')}")
        return 0
    try:
        _evaluate(given)
    except ConfigError as error:
        tell(error)
        return 2
    return 0


def _evaluate(given: list[str]) -> None:
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    from r2r.stages.lm_eval_model import MODEL, asked, with_our_tasks

    flags = {argument.partition("=")[0] for argument in given}
    if "list" in given and {"--tasks", "-t"} & flags:
        sys.argv[1:] = ["ls", "tasks"]
    elif not {"run", "ls", "validate"} & set(given[:1]):
        sys.argv.insert(1, "run")
        if not {"--model", "-M", "--config", "-C"} & flags:
            sys.argv += ["--model", MODEL]
    setup_logging()
    cli = HarnessCLI()
    args = cli.parse_args()
    config = None
    if args.command == "run":
        from lm_eval.config.evaluate_config import EvaluatorConfig

        with _one_line(), _unheard():
            config = EvaluatorConfig.from_cli(args)
        if config.model == MODEL:
            config.model_args = args.model_args = asked(config, args.device)
    with with_our_tasks(config), _one_line():
        cli.execute(args)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What lm-eval says of its options, it says again when it runs."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turn what lm-eval finds wrong with its options into ConfigError; faults stay faults."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, TypeError, OSError) as error:
        place, trace = "", error.__traceback__
        while trace:
            place, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
        said = " ".join(str(error).split())
        if place.startswith("datasets"):
            raise ConfigError(
                f"--tasks must be tasks whose data is here or can be fetched: {said}"
            ) from error
        if place.startswith(OPTIONS_OF):
            raise ConfigError(said) from error
        raise


if __name__ == "__main__":
    sys.exit(main())
