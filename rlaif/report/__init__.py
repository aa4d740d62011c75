"""Numbers and texts as one self-contained HTML page."""
