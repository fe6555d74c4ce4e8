"""What the names of contexts, clusters and namespaces look like: they become parts of URLs and command lines."""

from __future__ import annotations

import re

IN_CLUSTER = "in-cluster"
"""The context of the cluster that this process itself runs in, as a pod. No kubeconfig has it, unless by chance."""

NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names."""

JOB = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
"""Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names."""

CONTEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]{1,512}")
"""Any text in one line: the names of some clouds are ARNs or e-mail addresses."""

GKE_PROJECT = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,252}:)?[a-z0-9][a-z0-9-]{0,61}[a-z0-9]")
"""Source: https://cloud.google.com/resource-manager/docs/creating-managing-projects; or a project number."""

GKE_LOCATION = re.compile(r"[a-z]+(?:-[a-z]+)+[0-9]+(?:-[a-z])?")
"""A region or a zone: ``us-central1``, ``us-central1-a``."""

GKE_CLUSTER = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Source: https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters#Cluster."""
