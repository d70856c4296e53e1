"""The process: its ports, its connections, and how it starts, serves and drains."""
