"""Load: clients who ask at a planned rate, whatever becomes of what they asked before, and keep all that was said."""
