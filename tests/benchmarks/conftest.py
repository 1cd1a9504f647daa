"""The benchmarks are scripts; their parts are imported as they import them themselves."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
