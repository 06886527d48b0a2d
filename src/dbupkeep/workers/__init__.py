"""Workers: one file for each type of job."""
