"""What ONNX's own checker says of a model file, less what it says of its own definitions."""

from __future__ import annotations

import re

from onnxbuild.graphs.axes import Wrong


def problems(path: str) -> tuple[list[Wrong], list[str]]:
    """What `onnx.checker` with full_check finds, which is one thing at most, as a problem or as a note.

    A note where shape inference stumbles over ONNX's own definition of an operator (the body of a function such as
    MeanVarianceNormalization): the graph can't help it, and is valid without that step.
    """
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)
    except onnx.shape_inference.InferenceError as error:
        said = " ".join(str(error).split())
        if operator := _of_own_body(said):
            try:
                onnx.checker.check_model(path)
            except Exception as other:  # noqa: BLE001  # as below
                return [_wrong(str(other))], []
            return [], [f"onnx's shape inference stumbles over its own definition of {operator}"]
        return [_wrong(said)], []
    except Exception as error:  # noqa: BLE001  # the checker's and shape inference's errors share no class
        return [_wrong(str(error))], []
    return [], []


def _wrong(said: str) -> Wrong:
    sort = "sort them: model = onnx_ir.load(path); model.graph.sort(); onnx_ir.save(model, path)"
    return Wrong(f"onnx.checker: {' '.join(said.split())}", sort if "topologically sorted" in said else "")


def _of_own_body(said: str) -> str:
    """The standard operator in whose own function body inference failed, "" where it failed in the graph."""
    import onnx

    found = re.search(r"\(op_type:(\w+)[^)]*\): \[ShapeInferenceError\] Inference error\(s\): \(op_type:", said)
    if found is None:
        return ""
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.name == found[1]]
    has_body = any(schema.has_function or schema.has_context_dependent_function for schema in schemas)
    return found[1] if has_body else ""
