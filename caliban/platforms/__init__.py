"""Where jobs run: one module each behind one small interface."""
