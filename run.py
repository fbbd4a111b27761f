"""The experiment: python run.py router=mlp threshold=0.1 (python run.py --help for the rest)."""

import errno
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent
# A place for outputs that cannot be written is the user's to mend, like a mistyped key.
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


def main() -> None:
    from r2r.stages.compose import help_text, one_line_errors, register_resolvers

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text(ROOT / "conf"))
        return
    import hydra
    from omegaconf import DictConfig

    from r2r.errors import ConfigError
    from r2r.stages.main import experiment

    here = os.getpid()

    def task(raw: DictConfig) -> Any:
        register_resolvers()  # a launcher may run this in another process
        try:
            with one_line_errors(ROOT / "conf"):
                return experiment(raw)
        except ConfigError as error:
            if os.getpid() != here:
                raise
            fail(str(error))
        except OSError as error:
            if error.errno not in STORAGE:
                raise
            fail(f"outputs: {error.strerror}: {error.filename}")

    os.environ["PROJECT_ROOT"] = str(ROOT)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us, to be told in one line
    register_resolvers()
    configured = hydra.main(
        version_base="1.3", config_path=str(ROOT / "conf"), config_name="config"
    )
    try:
        with one_line_errors(ROOT / "conf"):
            configured(task)()
    except ConfigError as error:
        fail(str(error))
    except OSError as error:  # Hydra makes the run's folder before the task starts
        fail(f"outputs must be a folder that can be written: {error.strerror}: {error.filename}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def fail(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
