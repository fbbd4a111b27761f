"""The experiment: python run.py router=mlp threshold=0.1 (python run.py --help for the rest).

The project root is the folder of this file, with conf/, experiments/, sweeps/ and outputs/; the
config is composed from conf/ and the command line, and its stages run in their order.
"""

import os
from pathlib import Path

from r2r.stages.command import main

if __name__ == "__main__":
    os.environ["PROJECT_ROOT"] = str(Path(__file__).resolve().parent)
    main()
