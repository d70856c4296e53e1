"""Stand-ins for the model APIs of clouds: each checks and writes what the real one does, in front of the stand-in."""
