"""Export of a pushed model to one file for an edge runtime: TFLite or ONNX."""
