"""Studies: many cells, planned for one question, and what their records answer."""
