"""The command line: commands, flags, the console, and what is printed."""
