"""Convert recorded jobs of AI Platform Training (CAIP) to custom jobs of Vertex AI. Pure functions.

``docs/moving-to-vertex.md`` describes this for users. The fields of both services are those of the schemas
``GoogleCloudMlV1__Job`` and ``GoogleCloudAiplatformV1CustomJob`` of the discovery documents that
google-api-python-client ships (``ml.v1.json``, ``aiplatform.v1.json``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caliban.errors import PlatformError, UsageError
from caliban.platforms.google.labels import labels_of, malformed, object_at, text_at
from caliban.platforms.google.machine_catalog import NO_GPU, Gpu, Hardware
from caliban.platforms.migration import Migration
from caliban.platforms.vertex.details import VertexDestination, parse_details, place_details
from caliban.platforms.vertex.job_spec import DEFAULT_DISK_GB
from caliban.platforms.vertex.machines import CATALOG, boot_disk_type
from caliban.platforms.vertex.scheduling import ONE_ATTEMPT
from caliban.records import JobRecord, JsonObject

_CAIP = "CAIP"
"""The platform id of the jobs that are converted."""

_K80, _P100, _T4, _V100 = (f"NVIDIA_TESLA_{name}" for name in ("K80", "P100", "T4", "V100"))

_LEGACY: Mapping[str, tuple[str, Gpu | None]] = {
    "standard": ("n1-standard-4", None),
    "large_model": ("n1-highmem-8", None),
    "complex_model_s": ("n1-highcpu-8", None),
    "complex_model_m": ("n1-highcpu-16", None),
    "complex_model_l": ("n1-highcpu-32", None),
    "standard_gpu": ("n1-standard-8", Gpu(1, _K80)),
    "complex_model_m_gpu": ("n1-standard-16", Gpu(4, _K80)),
    "complex_model_l_gpu": ("n1-standard-32", Gpu(8, _K80)),
    "standard_p100": ("n1-standard-8", Gpu(1, _P100)),
    "complex_model_m_p100": ("n1-standard-16", Gpu(4, _P100)),
    "standard_v100": ("n1-standard-8", Gpu(1, _V100)),
    "large_model_v100": ("n1-highmem-8", Gpu(1, _V100)),
    "complex_model_m_v100": ("n1-standard-16", Gpu(4, _V100)),
    "complex_model_l_v100": ("n1-standard-32", Gpu(8, _V100)),
}
"""AI Platform's own machine type -> Compute Engine's, and its GPUs.

Source: https://cloud.google.com/ai-platform/training/docs/machine-types#legacy-machine-types
"""

_TIERS: Mapping[str, JsonObject] = {
    "BASIC": {"masterType": "standard"},
    "STANDARD_1": {
        "masterType": "complex_model_s",
        "workerType": "complex_model_s",
        "workerCount": 4,
        "parameterServerType": "standard",
        "parameterServerCount": 3,
    },
    "PREMIUM_1": {
        "masterType": "complex_model_m",
        "workerType": "complex_model_m",
        "workerCount": 19,
        "parameterServerType": "large_model",
        "parameterServerCount": 11,
    },
    "BASIC_GPU": {"masterType": "standard_gpu"},
    "BASIC_TPU": {"masterType": "cloud_tpu"},
}
"""Scale tier -> the same machines as fields of the tier CUSTOM.

Source: https://cloud.google.com/ai-platform/training/docs/machine-types#scale_tiers. As few people remember how many
machines the larger tiers had, the number is shown before a job is migrated.
"""

_REPLACEMENTS: Mapping[str, str] = {"n1-highcpu-8": "n1-standard-8"}
"""Machine type that Vertex AI does not offer -> one with the same number of CPUs and more memory.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#machine-types
"""

_ROLES = ("master", "worker", "parameterServer", "evaluator")
"""The worker pools of Vertex AI in their order, by AI Platform's names.

Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training#configure_a_distributed_training_job
"""

_MIGRATED_FIELDS = frozenset(
    {"scaleTier", "region", "args", "serviceAccount", "network", "enableWebAccess", "encryptionConfig", "jobDir"}
    | {"scheduling", "useChiefInTfConfig"}
    | {f"{role}{part}" for role in _ROLES for part in ("Type", "Count", "Config")}
)
_MIGRATED_REPLICA_FIELDS = frozenset(
    {"imageUri", "acceleratorConfig", "diskConfig", "containerCommand", "containerArgs"}
)
_NO_IMAGE = "it has no container image, and Vertex AI has no equivalent of AI Platform's runtimes"


def migrate(job: JobRecord) -> Migration:
    """Convert ``job``, of AI Platform Training.

    Settings without an equivalent are in ``dropped_settings``; so are replacements, and hardware that the catalog does
    not list (the catalog may be outdated: Vertex AI decides).

    Raises:
        PlatformError: ``not-translatable``: a job of another platform, or one that cannot run without what would be
            dropped (hyperparameter tuning, TPUs, no image, more K80 than a machine can have T4);
            ``malformed-job-spec``: the spec is not one of AI Platform.
    """
    if job.platform != _CAIP:
        raise _not_migratable(
            f"jobs on {job.platform}",
            "only jobs of AI Platform Training can be migrated",
            "omit --platform to run them again on their platform",
        )
    given = object_at(job.spec, "trainingInput")
    if given.get("hyperparameters"):
        raise _refusal("it tunes hyperparameters, which Vertex AI runs as another kind of job")
    tier = str(given.get("scaleTier") or ("CUSTOM" if given.get("masterType") else "BASIC"))
    training_input = {**given, **_TIERS.get(tier, {})}
    converter = _Converter(training_input)
    if "workerCount" in _TIERS.get(tier, {}):
        count, servers = training_input["workerCount"], training_input["parameterServerCount"]
        converter.dropped.append(f"scaleTier: {tier} becomes 1 master, {count} workers and {servers} parameter servers")
    spec: dict[str, object] = {"displayName": text_at(job.spec, "jobId")}
    if "labels" in job.spec:
        spec["labels"] = dict(labels_of(job.spec))
    spec["jobSpec"] = converter.job_spec()
    key = _object(training_input, "encryptionConfig").get("kmsKeyName")
    if key:
        spec["encryptionSpec"] = {"kmsKeyName": key}
    details = parse_details(job.status, _place_details(job, converter.region))
    return Migration(spec, details, tuple(dict.fromkeys(converter.dropped)))


def _place_details(job: JobRecord, region: str) -> JsonObject:
    """Return the details of a job on Vertex AI in the same place; {} where no project is recorded."""
    project = job.details.destination.to_json().get("project") if job.details.destination else None
    return place_details(VertexDestination(project, region)) if isinstance(project, str) else {}


@dataclass
class _Converter:
    """Converts one ``trainingInput`` of the tier CUSTOM.

    Attributes:
        given: the ``trainingInput``.
        dropped: what is not the same on Vertex AI, in order.
    """

    given: JsonObject
    dropped: list[str] = field(default_factory=list)

    @property
    def region(self) -> str:
        """Where the job runs."""
        return str(self.given.get("region") or CATALOG.default_region)

    def job_spec(self) -> dict[str, object]:
        pools = self._pools()
        converted: dict[str, object] = {"workerPoolSpecs": pools, **self._scheduling()}
        for name in ("serviceAccount", "network", "enableWebAccess"):
            if self.given.get(name):
                converted[name] = self.given[name]
        directory = self.given.get("jobDir")
        if directory:
            converted["baseOutputDirectory"] = {"outputUriPrefix": directory}
            self.dropped.append(
                "jobDir: Vertex AI does not pass --job-dir to the program; directories in it are in $AIP_MODEL_DIR, "
                "$AIP_CHECKPOINT_DIR and $AIP_TENSORBOARD_LOG_DIR"
            )
        if len(pools) > 1 and not self.given.get("useChiefInTfConfig"):
            self.dropped.append("useChiefInTfConfig: $TF_CONFIG always names the first machine chief, not master")
        for name in self.given:
            if name not in _MIGRATED_FIELDS:
                self._drop(name)
        return converted

    def _drop(self, name: str) -> None:
        self.dropped.append(f"{name}: Vertex AI has no equivalent")

    def _scheduling(self) -> dict[str, object]:
        """Both services have the same default for the longest run: seven days."""
        scheduling = _object(self.given, "scheduling")
        if scheduling.get("maxWaitTime"):
            self.dropped.append(
                f"scheduling.maxWaitTime: the job waits for machines for longer than {scheduling['maxWaitTime']}"
            )
        if scheduling.get("priority"):
            self.dropped.append("scheduling.priority: Vertex AI has no priorities")
        longest = scheduling.get("maxRunningTime")
        return {"scheduling": {**({"timeout": longest} if longest else {}), **ONE_ATTEMPT}}

    def _pools(self) -> list[dict[str, object]]:
        """Return a pool for each role; an empty one for a role without machines before one with machines."""
        pools = [self._pool(role, 1 if role == "master" else _number(self.given, f"{role}Count")) for role in _ROLES]
        while not pools[-1]:
            pools.pop()
        return pools

    def _pool(self, role: str, count: int) -> dict[str, object]:
        if count == 0:
            return {}
        config = _object(self.given, f"{role}Config")
        for name in config:
            if name not in _MIGRATED_REPLICA_FIELDS:
                self._drop(f"{role}Config.{name}")
        machine_type, gpu = self._machine(role, config)
        accelerators = {"acceleratorType": gpu.type, "acceleratorCount": gpu.count} if gpu else {}
        return {
            "machineSpec": {"machineType": machine_type, **accelerators},
            "diskSpec": self._disk(role, machine_type, config),
            "containerSpec": self._container(config),
            "replicaCount": str(count),
        }

    def _machine(self, role: str, config: JsonObject) -> tuple[str, Gpu | None]:
        named = text_at(self.given, f"{role}Type")
        requested = _object(config, "acceleratorConfig")
        kind, count = str(requested.get("type") or NO_GPU), _number(requested, "count")
        if named == "cloud_tpu" or (count and kind.startswith("TPU_")):
            raise _refusal("it uses TPUs, which Vertex AI attaches in another way")
        machine_type, gpu = _LEGACY.get(named, (named, None))
        if count and kind != NO_GPU:
            gpu = Gpu(count, kind)
        if machine_type in _REPLACEMENTS:
            larger = _REPLACEMENTS[machine_type]
            self.dropped.append(f"{role}Type: {larger}, with more memory, replaces {_both(named, machine_type)}")
            machine_type = larger
        gpu = gpu or CATALOG.with_gpus.get(machine_type)
        if gpu and gpu.type == _K80:
            gpu = self._replace_k80(machine_type, gpu)
        try:
            CATALOG.check(Hardware(self.region, machine_type, gpu))
        except UsageError as error:
            self.dropped.append(f"{role}Type: Vertex AI may refuse it: {error.message}")
        return machine_type, gpu

    def _replace_k80(self, machine_type: str, gpu: Gpu) -> Gpu:
        """Return the same number of T4, which are faster and have more memory.

        Google retired the K80: https://cloud.google.com/compute/docs/eol/k80-eol
        """
        replacement = Gpu(gpu.count, _T4)
        if replacement.count not in CATALOG.gpu_counts(machine_type, _T4):
            raise _refusal(f"Google retired the K80, and {machine_type} cannot have {replacement} instead of {gpu}")
        self.dropped.append(f"acceleratorConfig: {replacement} replaces {gpu}, which Google retired")
        return replacement

    def _disk(self, role: str, machine_type: str, config: JsonObject) -> dict[str, object]:
        disk = _object(config, "diskConfig")
        size = _number(disk, "bootDiskSizeGb") or DEFAULT_DISK_GB
        if size < DEFAULT_DISK_GB:
            self.dropped.append(f"{role}Config.diskConfig: the boot disk has {DEFAULT_DISK_GB} GB, the minimum")
        kind = disk.get("bootDiskType") or boot_disk_type(machine_type)
        return {"bootDiskType": kind, "bootDiskSizeGb": max(size, DEFAULT_DISK_GB)}

    def _container(self, config: JsonObject) -> dict[str, object]:
        image = config.get("imageUri") or _object(self.given, "masterConfig").get("imageUri")
        if not isinstance(image, str) or not image:
            raise _refusal(_NO_IMAGE)
        arguments = config.get("containerArgs", self.given.get("args"))
        command = config.get("containerCommand")
        return {
            "imageUri": image,
            **({"command": _texts(command)} if command else {}),
            **({"args": _texts(arguments)} if arguments is not None else {}),
        }


def _object(parent: JsonObject, name: str) -> JsonObject:
    """Return the JSON object ``name``; {} where there is none."""
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise malformed(f"{name} is not an object")
    return value


def _number(parent: JsonObject, name: str) -> int:
    """Return the number ``name``, which JSON may have as text; 0 where there is none."""
    value = parent.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not str(value).isdecimal():
        raise malformed(f"{name} is not a number")
    return int(str(value))


def _texts(value: object) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise malformed("the arguments are not a list")
    return [str(each) for each in value]


def _both(named: str, machine_type: str) -> str:
    return named if named == machine_type else f"{named} ({machine_type})"


def _refusal(cause: str) -> PlatformError:
    return _not_migratable("the job", cause, "submit the experiment again")


def _not_migratable(what: str, cause: str, hint: str) -> PlatformError:
    return PlatformError("not-translatable", f"cannot migrate {what} to Vertex AI", cause=cause, hint=hint)
