"""The command: ``python run.py ...`` in a checkout, ``python -m r2r ...`` anywhere; no traceback
for what the user, a signal or the disk brings about."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import r2r
from r2r.errors import ConfigError, tell

# A place for outputs that cannot be written is the user's to mend, like a mistyped key.
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
SELDOM = 100_000  # objects between collections of garbage: imports make many, and no garbage


class Stopped(SystemExit):
    """A signal asks this process to end. Not a KeyboardInterrupt, which Lightning answers itself,
    and not an Exception, which asyncio would only log."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.said = f"{SAID[signal.Signals(number)]}; the same command goes on from here"


def main() -> None:
    """Run the stages that the command line asks for."""
    gc.set_threshold(SELDOM)  # until the stages begin
    for number in SAID:
        signal.signal(number, _stop)
    try:
        _main()
        gc.freeze()  # or the interpreter looks through all that was imported at its end: a second
    except Stopped as stopped:
        print(stopped.said, file=sys.stderr)
        raise
    except BrokenPipeError:  # who read our output has gone, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of tasks that this ends
    raise Stopped(number)


def _main() -> None:
    from r2r.stages.compose import CONF, help_text, prepare

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text(CONF))
        return
    if "--version" in sys.argv[1:]:
        print(f"r2r {r2r.__version__}")
        return
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from r2r.stages.main import experiment, forget_empty
    from r2r.stages.mistakes import one_line_errors

    here = os.getpid()

    def task(raw: DictConfig) -> Any:
        prepare()  # a launcher may run this in another process
        try:
            with one_line_errors(CONF):
                return experiment(raw)
        except ConfigError as error:
            forget_empty(Path(HydraConfig.get().runtime.output_dir))
            if os.getpid() != here:
                raise
            fail(str(error))
        except OSError as error:
            if error.errno not in STORAGE:
                raise
            fail(f"outputs: {error.strerror}: {error.filename}")

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us, to be told in one line
    prepare()
    configured = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    try:
        with one_line_errors(CONF):
            _check_words(sys.argv[1:])
            configured(task)()
    except ConfigError as error:
        fail(str(error))
    except OSError as error:  # Hydra makes the run's folder before the task starts
        fail(f"outputs must be a folder that can be written: {error.strerror}: {error.filename}")


def _check_words(arguments: list[str]) -> None:
    """Raises ConfigError for a flag that is none of Hydra's (options are ``key=value`` here), and
    for a number as the option of a group."""
    from hydra._internal.utils import get_args_parser

    from r2r.stages.compose import CONF
    from r2r.stages.mistakes import not_a_flag, options_are_words

    known, others = get_args_parser().parse_known_args(arguments)
    if foreign := [argument for argument in others if argument.startswith("-")]:
        raise not_a_flag(foreign[0], arguments, CONF)
    options_are_words(known.overrides, CONF)


def fail(line: str) -> NoReturn:
    tell(line)
    sys.exit(2)
