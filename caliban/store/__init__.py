"""What is remembered: experiment groups, experiments, jobs, and the journal of submissions."""
