"""What MLflow has written is registered with its metrics, curves, parameters and flavour, from its files alone."""

import io
import zipfile

from tests.registry.world import Registry, code, tar

IMPORT = "/models/risk/churn/mlflow"
MLMODEL = b"""
artifact_path: model
flavors:
  python_function: {env: {conda: conda.yaml}, loader_module: mlflow.sklearn, python_version: 3.11.7}
  sklearn: {code: null, pickled_model: model.pkl, serialization_format: cloudpickle, sklearn_version: 1.8.0}
mlflow_version: 2.20.1
model_size_bytes: 1204
run_id: 0c6f1a9bf3c24d0aa2f6b1f4b0c5d2ee
signature:
  inputs: '[{"type": "double", "name": "age", "required": true}]'
utc_time_created: '2026-05-01 12:00:00.000000'
"""
MODEL = {"model/MLmodel": MLMODEL, "model/model.pkl": b"pickled", "model/conda.yaml": b"name: x"}
RUN = {
    "meta.yaml": b"run_id: 0c6f1a9bf3c24d0aa2f6b1f4b0c5d2ee\nrun_name: bold-fox-7\nstatus: 3\n",
    "params/max_depth": b"6",
    "params/eta": b"0.1",
    "params/notes": "Größe\n".encode(),
    "metrics/auc": b"1714564800000 0.91 0\n",
    "metrics/val/loss": b"3 nan 3\n1 0.7 1\n2 0.4 2\n4 0.25 4\nno line\n",
    "tags/mlflow.note.content": b"The weekly one",
    "tags/mlflow.user": b"ana",
    "artifacts/model/MLmodel": MLMODEL,
    "artifacts/model/model.pkl": b"pickled",
}


def _under(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


async def test_a_model_with_its_run(registry: Registry) -> None:
    ana = await registry.people.add("ana", groups=[("risk", "edit")])
    model, run = await registry.uploaded(tar(MODEL), by=ana), await registry.uploaded(_zip(RUN), by=ana)
    made = await registry.call("POST", IMPORT, {"artifact": model, "run": run}, by=ana)
    assert made.status_code == 201, made.text
    version = made.json()
    assert (version["artifact"], version["framework"], version["run"]) == (
        model,
        "sklearn",
        "0c6f1a9bf3c24d0aa2f6b1f4b0c5d2ee",
    )
    assert version["metrics"] == {"auc": 0.91, "val/loss": 0.25}
    assert version["metrics_summary"] == "auc=0.91, val/loss=0.25"
    assert version["curves"] == {"val.loss": [[1, 0.7], [2, 0.4], [3, None], [4, 0.25]]}
    assert version["description"] == "The weekly one"
    origin = version["parameters"].pop("mlflow")
    assert version["parameters"] == {"max_depth": "6", "eta": "0.1", "notes": "Größe"}
    assert (origin["run_name"], origin["flavors"]) == ("bold-fox-7", ["python_function", "sklearn"])
    again = await registry.call("POST", IMPORT, {"artifact": model, "run": run}, by=ana)
    assert (again.status_code, again.json()["number"]) == (200, 1)
    only = await registry.call("POST", IMPORT, {"artifact": model}, by=ana)
    assert (code(only), only.json()["version"]) == ("run_mismatch", 1)
    found = (await registry.call("GET", "/models?framework=sklearn", by=ana)).json()["items"]
    assert [each["name"] for each in found] == ["churn"]


async def test_a_run_alone_and_a_model_alone(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    for files in (RUN, _under("0c6f1a9bf3c24d0aa2f6b1f4b0c5d2ee", RUN)):
        uri = await registry.uploaded(tar(files, mode="w:xz"))
        dry = await registry.call("POST", IMPORT, {"artifact": uri}, by=registry.admin, params={"dry_run": "true"})
        assert (dry.status_code, dry.json()["framework"], dry.json()["metrics"]["auc"]) == (201, "sklearn", 0.91)
    bare = {"MLmodel": b"flavors: {onnx: {onnx_version: 1.16}}\n", "model.onnx": b"x"}
    version = await registry.make(IMPORT, {"artifact": await registry.uploaded(_zip(bare))})
    assert (version["framework"], version["run"], version["metrics"], version["curves"]) == ("onnx", None, None, {})


async def test_long_histories_are_cut_to_what_a_version_holds(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    lines = {f"metrics/loss{n}": b"".join(b"%d %f %d\n" % (s, 1 / (s + 1), s) for s in range(60_000)) for n in range(3)}
    lines["metrics/loss1"] += b"1 99 777\n"
    uri = await registry.uploaded(_zip({"meta.yaml": b"run_id: long\n", **lines}))
    version = await registry.make(IMPORT, {"artifact": uri})
    assert sum(version["large_curves"].values()) <= 100_000
    shown = await registry.call("GET", "/models/risk/churn/versions/1?points=100", by=registry.admin)
    assert [777, 99] in shown.json()["curves"]["loss1"]


async def test_what_is_no_mlflow_is_refused(registry: Registry) -> None:
    await registry.make("/groups", {"id": "risk"})
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(8)
    )
    bad = {
        "a file": b"not an archive",
        "another folder": tar({"model/model.pkl": b"x"}),
        "no YAML": tar({"MLmodel": b"{: ["}),
        "a list": tar({"MLmodel": b"- x\n"}),
        "empty": tar({"MLmodel": b""}),
        "a tag": tar({"MLmodel": b"flavors: !!python/object/apply:os.system [id]\nsignature: {a: "}),
        "deep": tar({"MLmodel": b"a: " + b"[" * 5000}),
        "too much": tar({"meta.yaml": b"run_id: x", **{f"params/p{n}": b"x" for n in range(6000)}}),
        "long": tar({"meta.yaml": b"run_id: x", "params/p": b"x" * 20_000}),
        "binary": tar({"MLmodel": bytes(range(256))}),
    }
    for why, data in bad.items():
        answer = await registry.call("POST", IMPORT, {"artifact": await registry.uploaded(data)}, by=registry.admin)
        assert (answer.status_code, code(answer)) == (422, "validation_failed"), (why, answer.text)
    # It multiplies only when it is written out, which it is not.
    bombed = await registry.uploaded(tar({"MLmodel": b"flavors: {onnx: {}}\n" + bomb + b"signature: *h\n"}))
    assert code(await registry.call("POST", IMPORT, {"artifact": bombed}, by=registry.admin)) == "validation_failed"
    for uri in ("s3://bucket/x", "registry://sha256:" + "0" * 64, "x"):
        assert code(await registry.call("POST", IMPORT, {"artifact": uri}, by=registry.admin)) == "validation_failed"
    other = await registry.uploaded(tar({"meta.yaml": b"run_id: another\n"}))
    model = await registry.uploaded(tar(MODEL))
    answer = await registry.call("POST", IMPORT, {"artifact": model, "run": other}, by=registry.admin)
    assert code(answer) == "validation_failed"
    sam = await registry.people.add("sam", groups=[("fraud", "manage")])
    stolen = await registry.call("POST", "/models/fraud/x/mlflow", {"artifact": model}, by=sam)
    assert code(stolen) == "validation_failed"
    assert (await registry.call("GET", "/models/risk/churn", by=registry.admin)).status_code == 404
