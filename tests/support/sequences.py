"""Layers of sequences, which have tests of their own: they have more weights than a kernel and a bias."""

SEQUENCE_KINDS = ("SimpleRNN", "GRU", "LSTM", "Bidirectional", "TimeDistributed")
"""Kinds that tests/models/test_recurrent_layers.py tests."""
