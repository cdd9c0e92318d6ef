"""Runs an exported network in ONNX Runtime: check_onnx.py NETWORK.onnx INPUT LOGITS

INPUT and LOGITS are float32 files, [n][3][R][R] and [n][classes]: what the network is given, and what
it should make of it. Prints |a - b| / |b|. Fails where the file is not valid ONNX, or not what
protobuf itself would have written.
"""
import sys

import numpy as np
import onnx
import onnxruntime

model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)
assert model.SerializeToString() == open(sys.argv[1], "rb").read(), "other bytes than protobuf's"
assert model.ir_version == 8 and [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(given,), (made,) = session.get_inputs(), session.get_outputs()
assert (given.name, made.name) == ("input", "logits")
assert given.shape[0] == made.shape[0] == "batch", given.shape
x = np.fromfile(sys.argv[2], np.float32).reshape(-1, *given.shape[1:])
wanted = np.fromfile(sys.argv[3], np.float32).reshape(-1, made.shape[1]).astype(np.float64)
both = session.run(None, {"input": x})[0]
ones = np.concatenate([session.run(None, {"input": x[i : i + 1]})[0] for i in range(len(x))])
assert both.shape == wanted.shape and np.isfinite(both).all()
print(max(np.linalg.norm(a - wanted) / np.linalg.norm(wanted) for a in (both, ones)))
