"""Files for the runtimes that a network is shipped to, what they give, and the milliseconds that they take."""
