"""The test bed: a real Kubernetes for the tests and the demo, from pinned sources, with no registry and no Docker.

Two levels: `control-plane` (etcd, kube-apiserver, kube-controller-manager on loopback, no root needed) and `node`
(besides these a scheduler, containerd, kubelet, kube-proxy and cluster DNS, in namespaces of its own, as root).
`python -m testbed --help` is the way in by hand; `cluster.Cluster` is the way in from Python.
"""
