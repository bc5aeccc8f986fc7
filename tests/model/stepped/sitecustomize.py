"""Makes every Python process that has this folder on its path a test build of the service.

The rules and the storage of a test build read their clock from a file, so that time passes when a test says so; and one
rule of the service can be changed in it (`plants.py`). Nothing of this is in the product: a server becomes a test build
by the PYTHONPATH that a test gives it, and so do the processes that it starts.
"""

from __future__ import annotations

import os

if "POINTS_MODEL_CLOCK" in os.environ:
    import plants
    import stepped_clock

    stepped_clock.install(os.environ["POINTS_MODEL_CLOCK"])
    plants.install(os.environ.get("POINTS_MODEL_PLANT", ""))
