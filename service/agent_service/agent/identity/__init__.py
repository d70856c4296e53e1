"""Workload identity: the pod's service-account token, exchanged for a credential that lives for an hour or less."""
