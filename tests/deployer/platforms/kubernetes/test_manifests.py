"""The objects made of a workload, against golden files. `MOORAGE_REWRITE_GOLDEN=1` writes these anew: read the diff."""

import json
import os
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.deployer.platforms import LabelledClaim, Nfs, Resources, Volume, Workload
from services.deployer.platforms.environment import expand
from services.deployer.platforms.kubernetes import Options, names
from services.deployer.platforms.kubernetes.manifests import Manifest, Manifests, build, field_manager, namespace
from services.deployer.platforms.kubernetes.manifests.resources import cores, size
from tests.deployer.platforms.kubernetes.cases import CASES, GIB, MODEL_URL, OPTIONS, REGISTRY_MODEL, ROOT_UID

GOLDEN = Path(__file__).with_name("golden")


class Dumper(yaml.SafeDumper):
    """Writes what comes twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def made(workload: Workload, options: Options = OPTIONS, *, replicas: int | None = None) -> Manifests:
    return build(workload, options, model_url=MODEL_URL if pulls(workload) else None, replicas=replicas)


def pulls(workload: Workload) -> bool:
    return bool(workload.template.model and workload.template.model.digest)


def objects(workload: Workload, options: Options = OPTIONS) -> list[Manifest]:
    found = made(workload, options, replicas=None if workload.most else workload.replicas)
    return [found.root, *found.dependents(ROOT_UID)]


def container(found: Manifests) -> Any:
    return found.root["spec"]["template"]["spec"]["containers"][0]


def one(workload: Workload, kind: str) -> Manifest:
    (found,) = [each for each in objects(workload) if each["kind"] == kind]
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_objects_are_the_golden_ones(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    documents = [namespace(OPTIONS, CASES[name].group), *objects(CASES[name])]
    text = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=120)
    if os.environ.get("MOORAGE_REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_there_is_no_golden_file_of_nothing() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_only_secrets_hold_what_is_secret(name: str) -> None:
    shown = json.dumps([each for each in objects(CASES[name]) if each["kind"] != "Secret"])
    for word in ("hunter2", "postgresql://", "s3cret", "signature"):
        assert word not in shown


@pytest.mark.parametrize("name", CASES)
def test_names_and_labels_are_what_kubernetes_takes(name: str) -> None:
    longest = replace(CASES[name], id="x" * 40, group="g" * 40, version=999_999)
    for each in objects(longest):
        about = each["metadata"]
        assert len(about["name"]) <= (63 if each["kind"] == "Service" else 253)
        assert all(len(value) <= 63 for value in about["labels"].values())
        assert len(about.get("namespace", "")) <= 63
    # 58 characters are kept of a generated pod name's beginning.
    assert len(names.root(longest)) <= 58


# What changes what


def test_an_address_that_is_renewed_changes_no_pod() -> None:
    before, after = (build(REGISTRY_MODEL, OPTIONS, model_url=url, replicas=1) for url in ("http://a", "http://b"))
    assert before.root == after.root
    assert before.owned != after.owned


@pytest.mark.parametrize(
    "change",
    [{"replicas": 7}, {"keep": frozenset("a")}, {"exposure": CASES["exposure"].exposure}, {"most": 9}],
    ids=lambda change: next(iter(change)),
)
def test_what_needs_no_fresh_replica_changes_no_pod(change: Mapping[str, Any]) -> None:
    assert made(replace(REGISTRY_MODEL, **change)).revision == made(REGISTRY_MODEL).revision


def test_a_new_release_of_the_model_server_is_a_new_revision_of_the_same_template() -> None:
    older, newer = (
        made(REGISTRY_MODEL),
        made(REGISTRY_MODEL, replace(OPTIONS, model_server_image="moorage/modelserver:2")),
    )
    assert older.revision != newer.revision
    found = [each.root["spec"]["template"]["metadata"]["annotations"][names.TEMPLATE] for each in (older, newer)]
    assert found == [REGISTRY_MODEL.template.digest] * 2


def test_the_order_of_a_mapping_changes_nothing() -> None:
    workload = CASES["secrets-and-files"]
    template = workload.template
    turned = replace(
        template,
        env=dict(reversed(template.env.items())),
        secrets=dict(reversed(template.secrets.items())),
        files=dict(reversed(template.files.items())),
    )
    assert yaml.safe_dump(objects(replace(workload, template=turned))) == yaml.safe_dump(objects(workload))


def test_two_templates_keep_their_secrets_and_files_side_by_side() -> None:
    workload = CASES["secrets-and-files"]
    files, secrets = {**workload.template.files, "more": "text"}, {**workload.template.secrets, "MORE": "hidden"}
    others = [replace(workload, template=replace(workload.template, **each)) for each in (
        {"files": files, "secrets": secrets}, {"env": {"A": "1"}}
    )]  # fmt: skip
    before, after, shown = (
        {(each["kind"], each["metadata"]["name"]) for each in objects(made) if "data" in each}
        for made in (workload, *others)
    )
    assert sorted(kind for kind, _ in before) == ["ConfigMap", "Secret"]
    assert not before & after
    assert before == shown, "what a pod shows itself takes no other Secret"


def test_a_password_cannot_be_found_out_by_a_name() -> None:
    for name in ("secrets-and-files", "custom-image"):
        workload = CASES[name]
        salted = replace(workload, template=replace(workload.template, nonce="salt"))
        found = [{e["metadata"]["name"] for e in objects(each) if e["kind"] == "Secret"} for each in (workload, salted)]
        hidden = bool(workload.template.secrets) + bool(workload.template.pull_secret)
        assert len(found[0] - found[1]) == hidden > 0


def test_the_models_address_is_the_pulls_alone() -> None:
    spec = made(REGISTRY_MODEL).root["spec"]["template"]["spec"]
    [pull], [replica] = spec["initContainers"], spec["containers"]
    [address] = [each for each in pull["env"] if each["name"] == "MOORAGE_MODEL_URL"]
    assert address["valueFrom"]["secretKeyRef"] == {
        "name": replica["envFrom"][0]["secretRef"]["name"], "key": "MOORAGE_MODEL_URL"
    }  # fmt: skip
    assert {"name": "MOORAGE_MODEL_URL"} in replica["env"], "this list goes before what comes of the Secret"


def test_an_autoscalers_replicas_are_not_ours() -> None:
    assert "replicas" not in made(CASES["autoscaling"], replicas=None).root["spec"]
    stopped = replace(CASES["autoscaling"], replicas=0)
    assert [each["kind"] for each in objects(stopped)] == ["Deployment", "Secret"]


# Environment


def test_values_come_through_the_expansion_as_they_were_given() -> None:
    env = {each["name"]: each.get("value", "") for each in container(made(REGISTRY_MODEL))["env"]}
    given = REGISTRY_MODEL.template.env
    assert {name: expand([env[name]], {"cost": "no"})[0] for name in given} == given


def test_the_platforms_word_is_the_last() -> None:
    hostile = {"MOORAGE_HOST": "0.0.0.0", "K8S_POD_IP": "1.2.3.4", "MOORAGE_PORT": "1", "OMP_NUM_THREADS": "7"}
    hostile |= {"KEY": "shown"}
    template = replace(REGISTRY_MODEL.template, env=hostile, secrets={"K8S_NODE_NAME": "x", "KEY": "hidden"})
    workload = replace(REGISTRY_MODEL, template=template)
    env = {each["name"]: each for each in container(made(workload))["env"]}
    assert env["MOORAGE_HOST"]["value"] == "$(K8S_POD_IP)"
    assert env["K8S_POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert env["K8S_NODE_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    # What is in the list goes before what is in the Secret: only of the defaults may there be another word.
    told = {name: b64decode(value).decode() for name, value in one(workload, "Secret")["data"].items()}
    assert told.keys() & env.keys() == {"OMP_NUM_THREADS", "MOORAGE_MODEL_URL", "K8S_NODE_NAME"}
    assert told["KEY"] == "hidden"
    assert (told["MOORAGE_PORT"], env["OMP_NUM_THREADS"]["value"]) == ("8080", "7")


# Resources


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.5, "500m"), (0.1 + 0.2, "300m"), (1.5, "1500m"), (16.0, "16"), (0.0001, "1m")]
)
def test_cores_as_kubernetes_spells_them(value: float, text: str) -> None:
    assert cores(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(GIB, "1Gi"), (1536 << 20, "1536Mi"), (10**9, "1G"), (1_500_000_000, "1500M"), (1001, "1001"), (1 << 60, "1Ei")],
)
def test_bytes_as_kubernetes_spells_them(value: int, text: str) -> None:
    assert size(value) == text


def limits(options: Options = OPTIONS, **asked: Any) -> dict[str, str]:
    template = replace(REGISTRY_MODEL.template, resources=Resources(**asked))
    found = container(made(replace(REGISTRY_MODEL, template=template), options))["resources"]
    assert found["limits"] == found["requests"]
    return dict(found["limits"])


def test_no_memory_is_no_limit() -> None:
    assert limits(cpu=1.0) == {"cpu": "1"}


def test_fractions_of_a_card_where_they_are_shared() -> None:
    shared = replace(OPTIONS, gpu_fraction_resource="example.com/vgpu")
    assert limits(shared, gpu=0.2) == {"cpu": "1", "example.com/vgpu": "20"}
    assert limits(shared, gpu=2.0) == {"cpu": "1", "nvidia.com/gpu": "2"}
    assert limits(gpu=0.2) == {"cpu": "1", "nvidia.com/gpu": "1"}


def test_the_pull_asks_for_no_card() -> None:
    (init,) = made(CASES["gpu"]).root["spec"]["template"]["spec"]["initContainers"]
    assert "nvidia.com/gpu" not in init["resources"]["limits"]


# Volumes


def volumes(*sources: Nfs | LabelledClaim) -> list[Manifest]:
    mounted = tuple(Volume(f"v{number}", f"/v{number}", source) for number, source in enumerate(sources))
    every = objects(replace(REGISTRY_MODEL, template=replace(REGISTRY_MODEL.template, volumes=mounted)))
    return [each for each in every if each["kind"].startswith("PersistentVolume")]


def test_another_folder_is_another_volume() -> None:
    def named(source: Nfs) -> set[str]:
        return {each["metadata"]["name"] for each in volumes(source)}

    (first,), (second,) = named(Nfs("nas", "/a", GIB)), named(Nfs("nas", "/b", GIB))
    assert first != second


def test_a_labelled_volume_has_one_claim_for_all_who_share_it() -> None:
    (shared,) = volumes(LabelledClaim(GIB, {"a": "1", "b": "2"}), LabelledClaim(GIB, {"b": "2", "a": "1"}))
    other = replace(
        REGISTRY_MODEL,
        version=2,
        template=replace(
            REGISTRY_MODEL.template, volumes=(Volume("m", "/m", LabelledClaim(GIB, {"a": "1", "b": "2"})),)
        ),
    )
    (theirs,) = [each for each in made(other).dependents("another") if each["kind"] == "PersistentVolumeClaim"]
    assert (theirs["metadata"]["name"], theirs["spec"]) == (shared["metadata"]["name"], shared["spec"])
    assert theirs["metadata"]["labels"] == shared["metadata"]["labels"] == {names.MANAGED_BY: names.MANAGER}
    assert {field_manager(shared), field_manager(theirs)} == {f"moorage-{ROOT_UID}", "moorage-another"}


# Placement


def test_one_namespace_that_is_given_is_everyones() -> None:
    one = replace(OPTIONS, namespace="serving")
    assert (one.own_namespaces, OPTIONS.own_namespaces) == (False, True)
    assert {each["metadata"].get("namespace") for each in objects(REGISTRY_MODEL, one)} == {"serving"}


def test_a_namespaces_own_pull_secrets_come_on_top() -> None:
    several = replace(OPTIONS, pull_secrets=("mirror",))
    workload = CASES["custom-image"]
    given = workload.template.pull_secret
    assert given is not None
    spec = made(workload, several).root["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["imagePullSecrets"]] == [names.pull_secret(workload, given), "mirror"]


def test_the_images_own_user_if_that_is_wanted() -> None:
    security = made(REGISTRY_MODEL, replace(OPTIONS, user=None)).root["spec"]["template"]["spec"]["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_without_a_drain_nothing_waits() -> None:
    found = made(REGISTRY_MODEL, replace(OPTIONS, drain_seconds=0))
    assert "lifecycle" not in container(found)
    assert found.root["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_external_ips_only_of_permitted_networks() -> None:
    assert one(CASES["exposure"], "Service")["spec"]["externalIPs"] == ["203.0.113.7"]
    (service,) = [
        each
        for each in objects(CASES["exposure"], replace(OPTIONS, external_ips=(ip_network("2001:db8::/32"),)))
        if each["kind"] == "Service"
    ]
    assert "externalIPs" not in service["spec"]


def test_selectors_find_what_is_of_other_contents() -> None:
    found = names.selector(REGISTRY_MODEL.uid, 1, but={"2", "1"})
    assert found.endswith(",moorage.io/version=1,moorage.io/content notin (1,2)")
    assert (
        names.selector(REGISTRY_MODEL.uid)
        == f"app.kubernetes.io/managed-by=moorage,moorage.io/uid={REGISTRY_MODEL.uid}"
    )
