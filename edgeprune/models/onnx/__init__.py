"""ONNX files: read as modules that train, prune and export; and written."""
