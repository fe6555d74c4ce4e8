"""One module a revision. A revision never changes once it was released."""
