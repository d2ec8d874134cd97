"""Make the street worlds of the trainings, in the background, before the part that needs them."""

from __future__ import annotations

import yaml

from gpu.report import settings
from gpu.training import make_worlds

if __name__ == "__main__":
    given = settings(__doc__)
    make_worlds(yaml.safe_load(given.runs.read_text(encoding="utf-8")), given)
