"""Tokenizers as ONNX graphs with explicit state."""

from audiotokens.export.folder import export_onnx

__all__ = ["export_onnx"]
