"""Arbitrary input for every decoder: no exception other than ours, no traceback."""
