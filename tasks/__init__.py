"""Reusable Prefect tasks (the modules), and the engines that they call (the sub-packages)."""

import time

STARTED_NS = time.time_ns()
"""When this process loaded the project; source that is written later may not be what it runs."""
