"""Ways to factorize one layer: the protocol, its laws, the table, and one file a method."""
