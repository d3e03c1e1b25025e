from __future__ import annotations

import onnxruntime
import pytest


def test_versions_and_the_providers_that_really_work_are_printed(workspace):
    ran = workspace.run("doctor")

    assert "CPUExecutionProvider" in ran.out and "works" in ran.out
    assert "torch " in ran.out and "No problems found." in ran.out


def test_a_provider_that_is_listed_but_does_not_run_is_not_called_working(workspace):
    missing = set(onnxruntime.get_available_providers()) - {"CPUExecutionProvider"}
    if not missing:
        pytest.skip("this onnxruntime lists no provider but the CPU's")
    lines = {line.split()[0]: line for line in workspace.run("doctor").out.splitlines() if "ExecutionProvider" in line}

    for provider in missing:
        session = onnxruntime.InferenceSession(_model(), providers=[provider, "CPUExecutionProvider"])
        assert ("does not work" in lines[provider]) == (provider not in session.get_providers())


def test_both_runtimes_installed_is_a_failure(workspace):
    """pip sees no conflict; which files won is down to the order of installation (FACTS)."""
    found = ("onnxruntime", "onnxruntime_gpu")
    for name in found:
        workspace.write(f"site/{name}-1.99.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.99.0\n")
    workspace.env["PYTHONPATH"] = str(workspace.root / "site")
    ran = workspace.run("doctor", code=1)

    assert "onnxruntime and onnxruntime-gpu are both installed" in ran.out or (
        "onnxruntime-gpu and onnxruntime are both installed" in ran.out
    )
    assert "uninstall both" in ran.out


def _model() -> bytes:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    return onnx.parser.parse_model(text).SerializeToString()
