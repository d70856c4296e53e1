"""The Kubernetes API: connection, requests, the cache of what is in the cluster, and comparison of objects."""
