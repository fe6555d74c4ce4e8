"""``caliban resubmit``: plan and re-run what failed."""
