"""Tests on a control plane alone: the charts and the operator against a real API server, without running pods."""
