"""Parts of the Kubernetes API that a spec passes on as written."""
