"""The one fine-tune of the chosen network."""
