"""The same network in other forms: as nodes, from which bundles for the runtime and ONNX files are written."""
