"""What follows from strain series: constants and their errors, stability, and what a point defect does to them."""
