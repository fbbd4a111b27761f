"""The experiment: python run.py router=mlp threshold=0.1 (python run.py --help for the rest)."""

import errno
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# A place for outputs that cannot be written is the user's to mend, like a mistyped key.
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


def main() -> int:
    from r2r.stages.compose import help_text, one_line_errors, register_resolvers

    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text(ROOT / "conf"))
        return 0
    import hydra

    from r2r.errors import ConfigError
    from r2r.stages.main import experiment

    os.environ["PROJECT_ROOT"] = str(ROOT)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us, to be told in one line
    register_resolvers()
    try:
        with one_line_errors(ROOT / "conf"):
            hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")(
                experiment
            )()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in STORAGE:
            raise
        print(f"error: outputs: {error.strerror}: {error.filename}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
