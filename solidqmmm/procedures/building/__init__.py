"""From a study to the parts that compute, and back to words."""
