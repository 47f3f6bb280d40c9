"""Work side by side: independent tasks and their executors, ranks that share or split, what that will cost."""
