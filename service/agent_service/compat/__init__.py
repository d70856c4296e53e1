"""The protocols of other clients, over the same dialogue: each package translates its requests, answers and errors."""
