"""ONNX files: read into graphs, and compared with onnxruntime operator by operator."""
