"""Other ways to choose ranks, to compare the front with."""
