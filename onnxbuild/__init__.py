"""A declarative, YAML-driven build system for ONNX models."""

__version__ = "0.1.0"
