"""A job of AI Platform Training, said in Vertex AI's terms; pure.

``docs/moving-to-vertex.md`` has the same for people. The sources of both sides' fields are the schemas
``GoogleCloudMlV1__Job`` and ``GoogleCloudAiplatformV1CustomJob`` of the discovery documents that
google-api-python-client ships (``ml.v1.json``, ``aiplatform.v1.json``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caliban.errors import PlatformError, UsageError
from caliban.platforms.base import Translation
from caliban.platforms.google.labels import labels_of, malformed, object_at, text_at
from caliban.platforms.google.machine_catalog import NO_GPU, Gpu, Hardware
from caliban.platforms.vertex.job_spec import DEFAULT_DISK_GB
from caliban.platforms.vertex.machines import CATALOG, boot_disk_type
from caliban.records import JobRecord, JsonObject, PlatformName

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
"""Machine of AI Platform's own naming -> the machine of Compute Engine, and its GPUs.

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
"""Scale tier -> what it stands for, as a job of the tier CUSTOM would say it.

Source: https://cloud.google.com/ai-platform/training/docs/machine-types#scale_tiers. How many machines the larger tiers
had can no longer be looked up everywhere, so it is told before a job is moved.
"""

_INSTEAD: Mapping[str, str] = {"n1-highcpu-8": "n1-standard-8"}
"""Machine that Vertex AI does not offer -> the one with as many CPUs and more memory.

Source: https://cloud.google.com/vertex-ai/docs/training/configure-compute#machine-types
"""

_ROLES = ("master", "worker", "parameterServer", "evaluator")
"""The worker pools of Vertex AI, in their order, by what AI Platform calls them.

Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training#configure_a_distributed_training_job
"""

_TRANSLATED = frozenset(
    {"scaleTier", "region", "args", "serviceAccount", "network", "enableWebAccess", "encryptionConfig", "jobDir"}
    | {"scheduling", "useChiefInTfConfig"}
    | {f"{role}{part}" for role in _ROLES for part in ("Type", "Count", "Config")}
)
_TRANSLATED_OF_REPLICAS = frozenset(
    {"imageUri", "acceleratorConfig", "diskConfig", "containerCommand", "containerArgs"}
)
_BUILT_IN = "a job of one of AI Platform's own runtimes, without an image, has no counterpart"


def translate(job: JobRecord) -> Translation:
    """What ``job``, of AI Platform Training, is on Vertex AI.

    A field that Vertex AI has nothing for stands in ``lost``; so does what is replaced, and what Vertex AI seems not to
    offer (which it decides itself: the catalog may be out of date).

    Raises:
        PlatformError: ``not-translatable``: a job of another platform, or one that could not run without what is lost
            (hyperparameters to be tuned, TPUs, no image, more K80s than a machine may have T4s);
            ``malformed-job-spec``: it is no job of AI Platform.
    """
    if job.platform is not PlatformName.CAIP:
        raise _not_translatable(
            f"jobs on {job.platform}",
            "only jobs of AI Platform Training are moved there",
            "leave --platform out to run them again where they ran",
        )
    given = object_at(job.spec, "trainingInput")
    if given.get("hyperparameters"):
        raise _refusal("it tunes hyperparameters, which is another kind of job there")
    tier = str(given.get("scaleTier") or ("CUSTOM" if given.get("masterType") else "BASIC"))
    training_input = {**given, **_TIERS.get(tier, {})}
    translator = _Translator(training_input)
    if "workerCount" in _TIERS.get(tier, {}):
        count, servers = training_input["workerCount"], training_input["parameterServerCount"]
        translator.lost.append(f"scaleTier: {tier} becomes a master, {count} workers and {servers} parameter servers")
    spec: dict[str, object] = {"displayName": text_at(job.spec, "jobId")}
    if "labels" in job.spec:
        spec["labels"] = dict(labels_of(job.spec))
    spec["jobSpec"] = translator.job_spec()
    key = _object(training_input, "encryptionConfig").get("kmsKeyName")
    if key:
        spec["encryptionSpec"] = {"kmsKeyName": key}
    region, project = training_input.get("region"), job.details.get("project_id")
    details = {
        **({"project_id": project} if isinstance(project, str) else {}),
        **({"region": region} if isinstance(region, str) and region else {}),
    }
    return Translation(spec, details, tuple(dict.fromkeys(translator.lost)))


@dataclass
class _Translator:
    """Translates one ``trainingInput`` of the tier CUSTOM, and keeps what is lost, in order."""

    given: JsonObject
    lost: list[str] = field(default_factory=list)

    def job_spec(self) -> dict[str, object]:
        pools = self._pools()
        translated: dict[str, object] = {"workerPoolSpecs": pools, **self._scheduling()}
        for name in ("serviceAccount", "network", "enableWebAccess"):
            if self.given.get(name):
                translated[name] = self.given[name]
        folder = self.given.get("jobDir")
        if folder:
            translated["baseOutputDirectory"] = {"outputUriPrefix": folder}
            self.lost.append(
                "jobDir: Vertex AI does not give it to the code as --job-dir; $AIP_MODEL_DIR, $AIP_CHECKPOINT_DIR and "
                "$AIP_TENSORBOARD_LOG_DIR name folders in it"
            )
        if len(pools) > 1 and not self.given.get("useChiefInTfConfig"):
            self.lost.append("useChiefInTfConfig: $TF_CONFIG always calls the first machine chief, never master")
        for name in self.given:
            if name not in _TRANSLATED:
                self.lost.append(f"{name}: Vertex AI has nothing for it")
        return translated

    def _scheduling(self) -> dict[str, object]:
        """The longest run of both has the same default, seven days."""
        scheduling = _object(self.given, "scheduling")
        if scheduling.get("maxWaitTime"):
            self.lost.append(
                f"scheduling.maxWaitTime: the job waits for machines longer than {scheduling['maxWaitTime']}"
            )
        if scheduling.get("priority"):
            self.lost.append("scheduling.priority: Vertex AI has no priorities")
        longest = scheduling.get("maxRunningTime")
        return {"scheduling": {"timeout": longest}} if longest else {}

    def _pools(self) -> list[dict[str, object]]:
        """One pool for each role; an empty one for a role in between that there is none of."""
        pools = [self._pool(role, 1 if role == "master" else _number(self.given, f"{role}Count")) for role in _ROLES]
        while not pools[-1]:
            pools.pop()
        return pools

    def _pool(self, role: str, count: int) -> dict[str, object]:
        if count == 0:
            return {}
        config = _object(self.given, f"{role}Config")
        for name in config:
            if name not in _TRANSLATED_OF_REPLICAS:
                self.lost.append(f"{role}Config.{name}: Vertex AI has nothing for it")
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
        asked = _object(config, "acceleratorConfig")
        kind, count = str(asked.get("type") or NO_GPU), _number(asked, "count")
        if named == "cloud_tpu" or (count and kind.startswith("TPU_")):
            raise _refusal("it asks for TPUs that stand beside its machine, which are reached in another way there")
        machine_type, gpu = _LEGACY.get(named, (named, None))
        if count and kind != NO_GPU:
            gpu = Gpu(count, kind)
        if machine_type in _INSTEAD:
            better = _INSTEAD[machine_type]
            self.lost.append(f"{role}Type: {better}, with more memory, takes the place of {_both(named, machine_type)}")
            machine_type = better
        gpu = gpu or CATALOG.with_gpus.get(machine_type)
        if gpu and gpu.type == _K80:
            gpu = self._instead_of_k80(machine_type, gpu)
        region = str(self.given.get("region") or CATALOG.default_region)
        try:
            CATALOG.check(Hardware(region, machine_type, gpu))
        except UsageError as error:
            self.lost.append(f"{role}Type: Vertex AI may refuse it: {error.message}")
        return machine_type, gpu

    def _instead_of_k80(self, machine_type: str, gpu: Gpu) -> Gpu:
        """As many T4, which are faster and have more memory.

        Vertex AI took K80s out of service: https://cloud.google.com/compute/docs/eol/k80-eol
        """
        instead = Gpu(gpu.count, _T4)
        if instead.count not in CATALOG.gpu_counts(machine_type, _T4):
            raise _refusal(f"there are no K80s any more, and {machine_type} cannot have {instead} instead of {gpu}")
        self.lost.append(f"acceleratorConfig: {instead} takes the place of {gpu}, which are no more")
        return instead

    def _disk(self, role: str, machine_type: str, config: JsonObject) -> dict[str, object]:
        disk = _object(config, "diskConfig")
        asked = _number(disk, "bootDiskSizeGb") or DEFAULT_DISK_GB
        if asked < DEFAULT_DISK_GB:
            self.lost.append(f"{role}Config.diskConfig: the boot disk has {DEFAULT_DISK_GB} GB, the least there is")
        kind = disk.get("bootDiskType") or boot_disk_type(machine_type)
        return {"bootDiskType": kind, "bootDiskSizeGb": max(asked, DEFAULT_DISK_GB)}

    def _container(self, config: JsonObject) -> dict[str, object]:
        image = config.get("imageUri") or _object(self.given, "masterConfig").get("imageUri")
        if not isinstance(image, str) or not image:
            raise _refusal(_BUILT_IN)
        arguments = config.get("containerArgs", self.given.get("args"))
        command = config.get("containerCommand")
        return {
            "imageUri": image,
            **({"command": _texts(command)} if command else {}),
            **({"args": _texts(arguments)} if arguments is not None else {}),
        }


def _object(parent: JsonObject, name: str) -> JsonObject:
    """The JSON object there; {} where there is none."""
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise malformed(f"its {name} is no object")
    return value


def _number(parent: JsonObject, name: str) -> int:
    """The number there, which JSON may have as text; 0 where there is none."""
    value = parent.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not str(value).isdecimal():
        raise malformed(f"its {name} is no number")
    return int(str(value))


def _texts(value: object) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise malformed("its arguments are no list")
    return [str(each) for each in value]


def _both(named: str, machine_type: str) -> str:
    return named if named == machine_type else f"{named} ({machine_type})"


def _refusal(cause: str) -> PlatformError:
    return _not_translatable("the job", cause, "submit the experiment anew with caliban cloud")


def _not_translatable(what: str, cause: str, hint: str) -> PlatformError:
    return PlatformError("not-translatable", f"{what} cannot be moved to Vertex AI", cause=cause, hint=hint)
