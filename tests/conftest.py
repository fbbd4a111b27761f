"""Shared fixtures; puts the test helpers on the path."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# The same examples in each run, however slow the machine.
slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=slow)
settings.load_profile("repeatable")
