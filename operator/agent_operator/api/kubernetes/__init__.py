"""Parts of Kubernetes' own API that a spec passes on as they are written."""
