"""The questions of a trust report that need runs of their own."""
