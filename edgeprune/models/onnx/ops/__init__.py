"""One file a family of ONNX operators; :mod:`edgeprune.models.onnx.ops.families` lists them."""
