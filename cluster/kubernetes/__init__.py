"""A plan as Kubernetes manifests: pods of the right sizes, and patches on the base in k8s/."""
