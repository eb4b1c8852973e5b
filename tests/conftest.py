"""How much hypothesis tries, by HYPOTHESIS_PROFILE.

`ordinary` in every run, `nightly` where time is no matter, `few` where the same is tried elsewhere.
"""

import os
from typing import Final

from hypothesis import HealthCheck, settings

_PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "ordinary")

# Drawing a model takes many draws, and running it milliseconds: neither is a fault.
_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

# The same examples in every ordinary run, so that a failure is due to the change at hand.
settings.register_profile("ordinary", deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=15, suppress_health_check=_SLOW)
settings.register_profile(
    "nightly", deadline=None, derandomize=False, max_examples=10_000, print_blob=True, suppress_health_check=_SLOW
)
settings.load_profile(_PROFILE)
