"""The test bed: a real Kubernetes for the tests and the demo, from pinned sources, without a registry or Docker.

Two levels: `control-plane` (etcd, kube-apiserver, kube-controller-manager on loopback, no root needed) and `node`
(in addition a scheduler, containerd, kubelet, kube-proxy and cluster DNS, in namespaces of its own, as root).
The entry point for users is `python -m testbed --help`; for Python it is `cluster.Cluster`.
"""
