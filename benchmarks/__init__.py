"""What is measured, and how: one script a claim; results/ has the figures."""

import os
import sys

# Installed programs have their bytecode. Where a machine forbids to store it, every process that is timed would compile
# torch anew: seconds that no user waits.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
