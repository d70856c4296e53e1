"""What the clients of agents have used, for chargeback."""
