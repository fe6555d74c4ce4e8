"""What every command that submits jobs shares."""
