"""One point off the front, measured as it would be built."""
