"""The Kubernetes API: connection, requests, the cache of the objects in the cluster, and comparison of objects."""
