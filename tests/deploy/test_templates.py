"""The templates under deploy/: their structure, and that they say what the program understands. None is run here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from points_grpc import __version__
from points_grpc.cli.composition import DUTY_STOP_S, OUTBOX_BOOKING_S, WRITER_STOP_S
from points_grpc.cli.main import main
from points_grpc.cli.supervisor import STOP_MAX_S
from points_grpc.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VARIABLES = {f"POINTS_GRPC_{name.upper()}" for name in Settings.model_fields} | {"POINTS_GRPC_CONFIG"}


def objects() -> Iterator[dict[str, Any]]:
    """Every object for Kubernetes."""
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text())


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines if line)]


def texts() -> list[str]:
    """What the templates say. What was built beside them is none of them."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy"]
    paths = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(ROOT / path).read_text() for path in paths]


def test_variables_are_settings() -> None:
    """Whatever template sets a variable of ours, a setting has that name."""
    named = set(re.findall(r"POINTS_GRPC_[A-Z_]*[A-Z]", "\n".join(texts())))

    assert set() == named - VARIABLES


def test_who_listens_on_all_addresses_says_that_the_network_encrypts() -> None:
    """Compose and Kubernetes bind to all addresses of a container."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]["environment"]
    [server] = [one for one in objects() if one["kind"] == "Deployment"]
    variables = {one["name"]: one.get("value") for one in server["spec"]["template"]["spec"]["containers"][0]["env"]}

    assert [("0.0.0.0", "true")] * 2 == [
        (one["POINTS_GRPC_HOST"], one["POINTS_GRPC_PLAINTEXT"]) for one in (compose, variables)
    ]


def test_the_image() -> None:
    """Two stages; a user without rights, by number; a health check; SIGTERM reaches the program itself."""
    found = instructions()
    last = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    final = dict(found[last:])

    assert 2 == len([name for name, _ in found if name == "FROM"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert final["HEALTHCHECK"].endswith('CMD ["points-grpc", "healthcheck"]')
    assert ('["points-grpc"]', '["serve"]', "SIGTERM") == (final["ENTRYPOINT"], final["CMD"], final["STOPSIGNAL"])


def test_the_image_gets_what_it_is_built_from() -> None:
    """Every file that is copied is there and sent to the builder; every extra exists."""
    copied = [
        name
        for instruction, rest in instructions()
        if instruction == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    ]
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    [extras] = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)

    assert sorted(sent) == sorted(copied)
    assert [] == [name for name in copied if not (ROOT / name).exists()]
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_compose() -> None:
    """Migration after the database is healthy, server after the migration; commands are ours; ports on loopback."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]

    assert ["service_healthy"] == [one["condition"] for one in services["migrate"]["depends_on"].values()]
    assert ["service_completed_successfully"] == [one["condition"] for one in services["server"]["depends_on"].values()]
    for name in ("migrate", "server"):
        assert set(services[name]["command"]) <= set(main.commands)
        assert (True, ["ALL"]) == (services[name]["read_only"], services[name]["cap_drop"])
        assert (DEPLOY / services[name]["build"]["context"] / services[name]["build"]["dockerfile"]).exists()
    assert all(port.startswith("127.0.0.1:") for port in services["server"]["ports"])
    mounted = {one.partition(":")[0] for service in services.values() for one in service.get("volumes", ())}
    assert set(compose["volumes"]) == mounted


def seconds(text: str) -> float:
    """A duration of compose."""
    return float(text.removesuffix("s"))


def test_nobody_is_killed_while_draining() -> None:
    """What kills in the end waits for the drain of the server, and for all that follows it at worst."""
    chores_s: float = Settings.model_fields["otp_timeout_s"].default + OUTBOX_BOOKING_S
    after_s = chores_s + DUTY_STOP_S + WRITER_STOP_S
    drain_s: float = Settings.model_fields["drain_s"].default
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    unit = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "points-grpc.service").read_text(), re.MULTILINE))
    [server] = [one for one in objects() if one["kind"] == "Deployment"]
    pod = server["spec"]["template"]["spec"]
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    before_s = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    assert drain_s + after_s <= seconds(compose["stop_grace_period"])
    assert drain_s + STOP_MAX_S <= float(unit["TimeoutStopSec"])  # several workers, which a supervisor ends
    assert before_s + float(variables["POINTS_GRPC_DRAIN_S"]) + after_s <= pod["terminationGracePeriodSeconds"]


def test_memory_is_limited() -> None:
    """Nothing but a limit from outside ends what strangers make gRPC's core keep (decision 175)."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    unit = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "points-grpc.service").read_text(), re.MULTILINE))
    [server] = [one for one in objects() if one["kind"] == "Deployment"]
    [container] = server["spec"]["template"]["spec"]["containers"]

    assert ("1g", "1G", "1Gi") == (
        compose["mem_limit"],
        unit["MemoryMax"],
        container["resources"]["limits"]["memory"],
    )
    assert "on-failure" == unit["Restart"]
    assert "unless-stopped" == compose["restart"]


SHAPES: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("apps/v1", "replicas", "selector", "strategy", "template"),
    "Job": ("batch/v1", "backoffLimit", "template", "ttlSecondsAfterFinished"),
    "PodDisruptionBudget": ("policy/v1", "minAvailable", "selector"),
    "Service": ("v1", "clusterIP", "ports", "selector"),
}
CONTAINER = {
    "name",
    "image",
    "args",
    "command",
    "env",
    "ports",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "lifecycle",
    "resources",
    "securityContext",
    "volumeMounts",
}
POD = {
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "initContainers",
    "restartPolicy",
    "securityContext",
    "terminationGracePeriodSeconds",
    "volumes",
}


def test_kubernetes_objects_have_their_shape() -> None:
    """Kinds, versions and fields are those that exist; labels and selectors meet; what is mounted is there."""
    found = list(objects())

    assert sorted([*SHAPES, "Secret"]) == sorted(one["kind"] for one in found)
    for one in found:
        assert {"apiVersion", "kind", "metadata"} <= set(one)
        if one["kind"] == "Secret":
            continue
        version, *fields = SHAPES[one["kind"]]
        assert (version, sorted(fields)) == (one["apiVersion"], sorted(one["spec"]))
        if "template" in one["spec"]:
            check_pod(one["spec"]["template"]["spec"])
    [server] = [one for one in found if one["kind"] == "Deployment"]
    labels = server["spec"]["template"]["metadata"]["labels"]
    for one in found:
        if "selector" in one.get("spec", {}):
            wanted = one["spec"]["selector"]
            assert wanted.get("matchLabels", wanted).items() <= labels.items()


def check_pod(pod: Mapping[str, Any]) -> None:
    """What holds for every pod of ours."""
    assert set(pod) <= POD
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["enableServiceLinks"] is False  # whose variables have our prefix
    volumes = {one["name"] for one in pod["volumes"]}
    secret_keys = {"points-grpc": {"database", "password"}}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert set(container) <= CONTAINER
        assert f"points-grpc:{__version__}" == container["image"]
        assert {one["name"] for one in container["volumeMounts"]} <= volumes
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert set(container.get("args", ())) <= set(main.commands)
        for one in container.get("env", ()):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            assert reference is None or reference["key"] in secret_keys[reference["name"]]


def test_probes_ask_where_the_server_listens() -> None:
    """Start and readiness by gRPC health, life by the port alone: a server without a writer is not to be killed."""
    [server] = [one for one in objects() if one["kind"] == "Deployment"]
    container = server["spec"]["template"]["spec"]["containers"][0]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}

    assert [ports["grpc"]] * 3 == [
        container["startupProbe"]["grpc"]["port"],
        container["readinessProbe"]["grpc"]["port"],
        container["livenessProbe"]["tcpSocket"]["port"],
    ]
    assert ports["grpc"] == Settings.model_fields["port"].default


def test_the_unit(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """systemd finds nothing to complain about, the place of the program apart; without systemd, its lines alone."""
    text = (DEPLOY / "points-grpc.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)

    assert "/points-grpc serve --config /etc/points-grpc/points.toml" in command
    assert {
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "KillMode=mixed",
        "User=points",
        "RestartPreventExitStatus=2",
    } <= set(text.splitlines())
    assert [] == re.findall(r"^Environment=POINTS_GRPC_.*", text, re.MULTILINE)  # they would win over the file
    assert "DynamicUser" not in text  # whose files nobody else can make
    tool = shutil.which("systemd-analyze")
    if tool is None:
        record_property("summary", "deploy/points-grpc.service: systemd-analyze is not there, not verified")
        return
    unit = tmp_path / "points-grpc.service"
    unit.write_text(text.replace(command, "/bin/true"))
    done = subprocess.run([tool, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_the_settings_of_the_unit() -> None:
    """Every line is a setting with a value that is allowed, and leads to where the unit may write."""
    written = tomllib.loads((DEPLOY / "points.toml").read_text())
    settings = Settings.model_validate(written)
    [state] = re.findall(r"^StateDirectory=(.*)$", (DEPLOY / "points-grpc.service").read_text(), re.MULTILINE)

    assert f"sqlite:////var/lib/{state}/points.db" == settings.database
    assert Path(f"/var/lib/{state}/checkpoints") == settings.checkpoint_folder


def test_commands_of_the_templates_are_ours() -> None:
    """What comments tell to run: each command is one, with options that it has."""
    told = [
        line
        for text in texts()
        for line in re.findall(r"^#.*?points-grpc ((?:secrets|migrate|orgs|keys)\b.*)$", text, re.MULTILINE)
    ]

    assert {"secrets create --keys-file keys.json", "migrate", 'orgs create "Acme" --region IN'} <= set(told)
    for line in told:
        name, *words = shlex.split(line)
        command = main.commands[name]
        if isinstance(command, click.Group) and words:
            command = command.commands[words[0]]
        options = {one for parameter in command.params for one in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_can_be_read(path: Path) -> None:
    """Every file, and no key stands there twice."""
    documents = list(yaml.load_all(path.read_text(), Loader=Strict))

    assert all(documents)


class Strict(yaml.SafeLoader):
    """Refuses a mapping with a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(set(keys)) == len(keys), keys
        return super().construct_mapping(node, deep)
