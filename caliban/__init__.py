"""caliban: run groups of machine-learning experiments in containers, and re-run what failed."""
