"""What triggers the operator: watches and lists (kopf), and the reports of the pods."""
