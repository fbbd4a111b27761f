"""The command r2r-serve."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import r2r
from r2r.errors import ConfigError, tell

HELP = """\
r2r-serve [group=option] [key=value] ...: an OpenAI-compatible server over a
routed pair, and a chat page; the same as run.py stages=[serve], with all of its
options.

  serve.host, serve.port      where it listens: 127.0.0.1 and 8000
  serve.api_key_env           the variable with the key that clients must give;
                              needed for a host that others can reach
  serve.running, serve.queue  answers written at once; more that may wait
  threshold                   of a request that names none

  r2r-serve                   the nano pair's router, trained by run.py
  r2r-serve router=trained router.path=FOLDER
                              a finished one

All groups and keys: python -m r2r --help
"""


def main() -> int:
    """``r2r-serve [group=option] [key=value] ...``: run.py with ``stages=[serve]``."""
    from r2r.stages.compose import compose
    from r2r.stages.main import run

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(HELP, end="")
        return 0
    if "--version" in sys.argv[1:]:
        print(f"r2r {r2r.__version__}")
        return 0
    try:
        overrides = ["stages=[serve]", *sys.argv[1:]]
        config, router = compose(overrides)
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        run(config, Path(config.outputs) / config.run / now, router, overrides)
    except ConfigError as error:
        tell(error)
        return 2
    return 0
