"""python -m r2r: the same as run.py."""

from r2r.stages.command import main

if __name__ == "__main__":
    main()
