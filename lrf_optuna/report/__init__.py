"""The HTML report, its figures, and the same tables for the terminal."""
