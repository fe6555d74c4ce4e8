"""The experiment store: experiment groups, experiments, jobs, and the journal of submissions."""
