"""The plots of the pages, as inline SVG. Each plot function returns panels, or none where its numbers are missing."""
