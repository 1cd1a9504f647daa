"""`python -m musicgen_rl` is `musicgen-rl`."""

from musicgen_rl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
