"""Jobs on Kubernetes clusters: GKE, and any cluster of a kubeconfig."""
