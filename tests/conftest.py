from __future__ import annotations

from hypothesis import settings

# A busy machine is no defect: what is too slow is found by the benchmark and by pytest's own time limit.
settings.register_profile("sidecar", deadline=None)
settings.load_profile("sidecar")
