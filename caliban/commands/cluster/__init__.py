"""The subcommands of ``caliban cluster``."""
