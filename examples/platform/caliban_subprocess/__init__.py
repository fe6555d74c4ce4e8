"""Experiments as plain processes of this machine: a platform for caliban, in a package of its own."""
