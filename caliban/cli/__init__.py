"""How people talk to caliban."""
