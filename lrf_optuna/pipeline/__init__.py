"""The road from a study's settings to the files that a run leaves."""
