"""Results in, matplotlib Axes out."""
