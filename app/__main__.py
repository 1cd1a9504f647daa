"""`python -m app` is `musicgen-rl demo`."""

import sys

from musicgen_rl.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["demo", *sys.argv[1:]]))
