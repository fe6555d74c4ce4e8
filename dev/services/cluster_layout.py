"""Where a cluster of ours keeps its files, which ports it listens on, and the command line of each component."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.cluster_images import PAUSE_IMAGE

NODE = "node-1"
NODE_IP = "198.51.100.1"
"""The bridge's address; RFC 5737 reserves this network for documentation."""
POD_NETWORK = "198.51.100.0/24"
BRIDGE = "caliban-k8s0"
SERVICE_NETWORK, FIRST_SERVICE_IP = "10.0.0.0/24", "10.0.0.1"

_GRACE_SECONDS = 12
_EVICTION_SECONDS = 10


@dataclass(frozen=True)
class Layout:
    """Files and ports.

    Attributes:
        state: the directory of everything that is removed when the cluster stops.
        logs: the directory of the components' logs, which stay.
        cni: the directory of the CNI plugins.
        api, etcd, etcd_peer, manager, scheduler, kubelet: ports of the loopback.
    """

    state: str
    logs: str
    cni: str
    api: int
    etcd: int
    etcd_peer: int
    manager: int
    scheduler: int
    kubelet: int

    def save(self, path: Path) -> None:
        """Write it to a file, for the process that starts the components."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Layout:
        """Read what :meth:`save` wrote."""
        return cls(**json.loads(path.read_text()))

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://127.0.0.1:{self.api}"

    @property
    def users(self) -> str:
        """Directory of certificates and kubeconfig files."""
        return f"{self.state}/users"

    @property
    def containerd_socket(self) -> str:
        """Path of containerd's socket."""
        return f"{self.state}/containerd.sock"

    def kubeconfig(self, name: str) -> str:
        """Path of a component's kubeconfig file."""
        return f"{self.users}/{name}.kubeconfig"

    def command(self, component: str) -> list[str]:
        """Return the command line of a component: one of :data:`COMPONENTS`."""
        return COMPONENTS[component](self)

    def write_configuration(self) -> None:
        """Write the configuration files of containerd, its networks and the kubelet."""
        state = Path(self.state)
        (state / "cni").mkdir()
        (state / "cni" / "10-bridge.conflist").write_text(json.dumps(_network(self)))
        (state / "containerd.toml").write_text(_CONTAINERD.format(layout=self, pause=PAUSE_IMAGE))
        (state / "kubelet.json").write_text(json.dumps(_kubelet_configuration(self)))


def _etcd(layout: Layout) -> list[str]:
    client, peer = f"http://127.0.0.1:{layout.etcd}", f"http://127.0.0.1:{layout.etcd_peer}"
    return [
        *("etcd", "--data-dir", f"{layout.state}/etcd", "--unsafe-no-fsync", "--initial-cluster", f"default={peer}"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
    ]


def _api_server(layout: Layout) -> list[str]:
    users = layout.users
    return [
        *("kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{layout.etcd}"),
        *("--bind-address", "127.0.0.1", "--secure-port", str(layout.api), "--advertise-address", NODE_IP),
        *("--endpoint-reconciler-type", "none", "--service-cluster-ip-range", SERVICE_NETWORK, "--allow-privileged"),
        *("--client-ca-file", f"{users}/ca.crt"),
        *("--tls-cert-file", f"{users}/kube-apiserver.crt", "--tls-private-key-file", f"{users}/kube-apiserver.key"),
        *("--kubelet-preferred-address-types", "InternalIP", "--kubelet-certificate-authority", f"{users}/ca.crt"),
        *("--kubelet-client-certificate", f"{users}/admin.crt", "--kubelet-client-key", f"{users}/admin.key"),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-signing-key-file", f"{users}/accounts.key"),
        *("--service-account-key-file", f"{users}/accounts.pub"),
        *("--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"),
        # The pods of a lost node are evicted this soon: the default is five minutes.
        *("--default-not-ready-toleration-seconds", str(_EVICTION_SECONDS)),
        *("--default-unreachable-toleration-seconds", str(_EVICTION_SECONDS)),
    ]


def _manager(layout: Layout) -> list[str]:
    return [
        *("kube-controller-manager", "--kubeconfig", layout.kubeconfig("system-kube-controller-manager")),
        *("--bind-address", "127.0.0.1", "--secure-port", str(layout.manager), "--leader-elect=false"),
        *("--root-ca-file", f"{layout.users}/ca.crt", "--use-service-account-credentials"),
        *("--service-account-private-key-file", f"{layout.users}/accounts.key"),
        *("--kube-api-qps", "200", "--kube-api-burst", "400"),  # by default, 200 jobs take a minute
        *("--node-monitor-period", "2s", "--node-monitor-grace-period", f"{_GRACE_SECONDS}s"),
    ]


def _scheduler(layout: Layout) -> list[str]:
    return [
        *("kube-scheduler", "--kubeconfig", layout.kubeconfig("system-kube-scheduler"), "--leader-elect=false"),
        *("--bind-address", "127.0.0.1", "--secure-port", str(layout.scheduler)),
    ]


def _containerd(layout: Layout) -> list[str]:
    return ["containerd", "--config", f"{layout.state}/containerd.toml"]


def _kubelet(layout: Layout) -> list[str]:
    return [
        *("kubelet", "--kubeconfig", layout.kubeconfig(f"system-node-{NODE}"), "--root-dir", f"{layout.state}/kubelet"),
        *("--config", f"{layout.state}/kubelet.json", "--hostname-override", NODE, "--node-ip", NODE_IP),
        # With the default of 1, the output before a restart is deleted now and then: once a minute, the node counts the
        # ended containers, and takes one that it has created and not started yet for the one to keep.
        *("--maximum-dead-containers-per-container", "3"),
    ]


COMPONENTS = {
    "etcd": _etcd,
    "kube-apiserver": _api_server,
    "containerd": _containerd,
    "kube-controller-manager": _manager,
    "kube-scheduler": _scheduler,
    "kubelet": _kubelet,
}
"""In the order in which they start."""

_CONTAINERD = """\
version = 3
root = "{layout.state}/containerd"
state = "{layout.state}/containerd-run"
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{layout.cni}"]
  conf_dir = "{layout.state}/cni"
"""


def _network(layout: Layout) -> dict[str, object]:
    addresses = {"type": "host-local", "subnet": POD_NETWORK, "dataDir": f"{layout.state}/addresses"}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "bridge", "plugins": [bridge, {"type": "loopback"}]}


def _kubelet_configuration(layout: Layout) -> dict[str, object]:
    certificate = f"{layout.users}/system-node-{NODE}"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "port": layout.kubelet,
        "healthzPort": 0,
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Without services and host ports, no firewall rule is needed, so none is left behind.
        "makeIPTablesUtilChains": False,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "podLogsDir": f"{layout.state}/pod-logs",
        "volumePluginDir": f"{layout.state}/volume-plugins",
        "tlsCertFile": f"{certificate}.crt",
        "tlsPrivateKeyFile": f"{certificate}.key",
        "authentication": {
            "x509": {"clientCAFile": f"{layout.users}/ca.crt"},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "nodeStatusUpdateFrequency": "4s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
    }
