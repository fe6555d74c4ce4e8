"""The Docker Engine: its endpoint, builds and their logs."""
