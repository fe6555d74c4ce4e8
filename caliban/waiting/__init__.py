"""Wait for jobs: ``caliban wait``, and ``--wait`` of the commands that submit."""
