"""Jobs on AI Platform Training (CAIP)."""
