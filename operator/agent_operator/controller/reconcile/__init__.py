"""The reconciliation of one agent: gather, plan, apply, publish."""
