"""Deployment files, checked without a cloud and without a container engine: against the
schemas of Ray, KubeRay, Kubernetes and Compose, the Dockerfile's linter, the commands' own parsers and the lock.
"""

import copy
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from jobs import cli
from tests.support import kuberay_schema
from tests.support.processes import ROOT

KUBERNETES = "1.33"
COMPOSE, AWS = ROOT / "infra" / "deploy" / "compose.yaml", ROOT / "ray_cluster.yaml"
KUBERAY = ROOT / "infra" / "deploy" / "kuberay"


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


def check_aws(document: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(document))
    validate_config(prepared)
    return prepared


def test_the_aws_cluster_is_valid_for_ray():
    prepared = check_aws(load(AWS))
    types = prepared["available_node_types"]
    assert types[prepared["head_node_type"]]["resources"]["CPU"] == 0
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(max_worker=3),
        lambda d: d.update(head_node_type="heads"),
        lambda d: d["available_node_types"]["gpu"].update(min_workers=99),
        lambda d: d["available_node_types"]["gpu"]["resources"].update(GPU=0.5),
    ],
)
def test_an_invalid_aws_cluster_is_found(spoil: Callable[[dict[str, Any]], None]):
    document = load(AWS)
    spoil(document)
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        check_aws(document)


def pod_templates(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = document["spec"].get("rayClusterSpec") or document["spec"].get("rayClusterConfig") or document["spec"]
    for group in [spec.get("headGroupSpec"), *spec.get("workerGroupSpecs", [])]:
        if group:
            yield group["template"]


def check_kuberay(document: dict[str, Any]) -> None:
    specs = {
        "RayCluster": kuberay_schema.CLUSTER_SPEC,
        "RayJob": kuberay_schema.JOB_SPEC,
        "RayService": kuberay_schema.SERVICE_SPEC,
    }
    jsonschema.validate(document, kuberay_schema.resource(document["kind"], specs[document["kind"]]))
    for template in pod_templates(document):
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(whole, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml", "rayservice.yaml"])
def test_manifests_are_valid_for_kuberay(name: str):
    check_kuberay(load(KUBERAY / name))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["spec"].update(workerGroupSpec=[]),
        lambda d: d["spec"]["workerGroupSpecs"][0].pop("maxReplicas"),
        lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda d: d["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0].update(imag="x"),
        lambda d: d["spec"]["workerGroupSpecs"][1]["template"]["spec"].pop("containers"),
    ],
)
def test_invalid_kuberay_manifests_are_found(spoil: Callable[[dict[str, Any]], None]):
    document = load(KUBERAY / "raycluster.yaml")
    spoil(document)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check_kuberay(document)


def test_manifests_use_the_version_of_ray_in_constraints_txt():
    (locked,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert load(KUBERAY / "raycluster.yaml")["spec"]["rayVersion"] == locked
    assert load(KUBERAY / "rayservice.yaml")["spec"]["rayClusterConfig"]["rayVersion"] == locked


def started() -> Iterator[list[str]]:
    """Every `ray start` and `mlflow server` of the files, as words."""
    for service in load(COMPOSE)["services"].values():
        yield shlex.split(service.get("command", ""))
    aws = load(AWS)
    for line in [*aws["head_start_ray_commands"], *aws["worker_start_ray_commands"]]:
        for command in line.split(";"):
            yield shlex.split(command)
    service = load(KUBERAY / "rayservice.yaml")["spec"]["rayClusterConfig"]
    for spec in (load(KUBERAY / "raycluster.yaml")["spec"], service):
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            yield ["ray", "start", *(f"--{name}={value}" for name, value in group["rayStartParams"].items())]


def test_options_of_ray_and_mlflow_commands_exist():
    import click
    from mlflow.cli import server
    from ray.scripts.scripts import start

    seen = set()
    for program, name, *options in filter(lambda words: len(words) > 1, started()):
        command = {"ray start": start, "mlflow server": server}.get(f"{program} {name}")
        if command is None:
            continue
        seen.add(program)
        command.make_parser(click.Context(command)).parse_args(list(options))
    assert seen == {"ray", "mlflow"}


def test_the_job_manifest_has_valid_options():
    module, flag, name, *options = shlex.split(load(KUBERAY / "rayjob.yaml")["spec"]["entrypoint"])
    assert (module, flag, name) == ("python", "-m", "jobs.train")
    from jobs.train import _arguments

    arguments, config = cli.parse("train", "", _arguments, ("model", "train", "cache", "tracking", "cluster"), options)
    assert arguments.name == "shan-flickr30k"
    assert config.train.use_gpu


def test_the_service_manifest_has_a_valid_application():
    from ray.serve.schema import ServeDeploySchema

    from pipelines.service.application import build
    from pipelines.service.config import ServiceConfig
    from pipelines.service.generation import SERVICE

    config = ServeDeploySchema(**yaml.safe_load(load(KUBERAY / "rayservice.yaml")["spec"]["serveConfigV2"]))
    (application,) = config.applications
    assert application.name == SERVICE
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    service = ServiceConfig(**application.args["service"])
    assert (config.http_options.host, config.http_options.port) == (service.host, service.port)
    assert config.http_options.request_timeout_s > service.deadline_s
    assert build(application.args)


def test_the_compose_file_is_valid():
    from compose_spec import PyCompose

    document = load(COMPOSE)
    PyCompose.from_json(json.dumps(document))
    document["services"]["mlflow"]["port"] = []
    with pytest.raises(ValueError, match="port"):
        PyCompose.from_json(json.dumps(document))


def test_the_env_example_lists_every_secret_of_compose():
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    offered = dict(line.split("=") for line in COMPOSE.with_name("compose.env.example").read_text().splitlines()[1:])
    assert offered == dict.fromkeys(asked, "")


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run(
        [hadolint, ROOT / "infra" / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_the_image_installs_the_versions_of_constraints_txt():
    """Its own line that lists the requirements, run here; every one has an exact version in constraints.txt."""
    text = (ROOT / "infra" / "deploy" / "Dockerfile").read_text().replace("\\\n", "")
    (program,) = re.findall(r'python -c "(.+?)"', text)
    listed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    locked = {normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    names = {normal(re.split(r"[\[<>=]", line)[0]) for line in listed.splitlines()}
    assert {"ray", "torch", "mlflow", "psycopg", "faiss-cpu"} <= names
    assert names <= locked


def test_the_hashed_requirements_are_those_of_constraints_txt():
    def versions(lines: list[str]) -> dict[str, str]:
        pinned = (line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))
        return {normal(name): version for name, version in pinned}

    hashed = (ROOT / "infra" / "deploy" / "requirements.txt").read_text()
    found, locked = versions(hashed.splitlines()), versions((ROOT / "constraints.txt").read_text().splitlines())
    assert {"ray", "torch", "mlflow", "flask-wtf", "faiss-cpu"} <= set(found)
    assert {name: found[name] for name in found.keys() & locked.keys()}.items() <= locked.items()
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=\S)", hashed, flags=re.MULTILINE)[2:])


def test_the_image_copies_existing_paths():
    text = (ROOT / "infra" / "deploy" / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    kept = (ROOT / "infra" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source.split('/')[0]}" in kept


def test_the_image_has_the_required_programs_and_folders():
    """Ray's autoscaler calls programs from within the head's container; Docker gives a named volume the owner of the
    folder that it is mounted over, and the image's user is not root."""
    import ray.autoscaler._private.command_runner as runner

    text = (ROOT / "infra" / "deploy" / "Dockerfile").read_text()
    called = set(re.findall(r'= \["(ssh|rsync|scp)"', Path(runner.__file__).read_text()))
    assert {"ssh", "rsync"} <= called
    packages = {"ssh": "openssh-client", "scp": "openssh-client", "rsync": "rsync"}
    installed = re.findall(r"apt-get install (.+)", text)[0].split()
    assert {packages[name] for name in called} <= set(installed)
    assert "g++" in installed  # shan_model/native.py calls c++, as torch.compile does

    (user,) = re.findall(r"useradd --create-home --uid 1000 (\w+)", text)
    (made,) = re.findall(rf"install --directory --owner={user} --group={user} (.+)", text)
    services = load(COMPOSE)["services"].values()
    built = [service for service in services if service["image"] == "shan-line"]
    mounted = [v.split(":")[1] for service in built for v in service.get("volumes", []) if v[0] != "."]
    assert mounted
    assert set(mounted) <= set(made.split())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
