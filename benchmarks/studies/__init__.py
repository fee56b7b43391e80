"""Studies: a declared grid, a reading of its records, a report."""
