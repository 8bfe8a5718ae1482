"""PyTorch modules: exported, read as ONNX, and compared with themselves."""
