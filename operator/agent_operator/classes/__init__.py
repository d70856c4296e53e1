"""What a class means for an agent: the values that it provides, and the bounds that it sets."""
