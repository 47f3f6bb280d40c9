"""One scheme per file, each a correction to the host."""
