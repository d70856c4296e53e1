"""The endpoints: parse, call, answer."""
