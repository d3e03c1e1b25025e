from __future__ import annotations

import json

import onnx
import onnxruntime
import pytest

from onnxbuild.commands import doctor
from onnxbuild.system import distributions, machine


def test_versions_and_the_providers_that_really_work_are_printed(workspace):
    ran = workspace.run("doctor")

    assert "CPUExecutionProvider" in ran.out and "works" in ran.out
    assert "torch " in ran.out and "No problems found that would stop a build." in ran.out
    assert max(len(line) for line in ran.out.splitlines() if "GPU" not in line) <= 80


def test_the_findings_as_json_with_what_would_make_a_provider_work(workspace, monkeypatch):
    found = json.loads(workspace.run("doctor", "--json").out)
    assert found["packages"]["onnx"] == onnx.__version__
    assert found["problems"] == []
    assert {one["name"]: one["works"] for one in found["providers"]}["CPUExecutionProvider"]

    missing = [("CUDAExecutionProvider", "libcublasLt.so.13 is not found"), ("CPUExecutionProvider", "")]
    monkeypatch.setattr("onnxbuild.runtimes.onnxruntime.usable_providers", lambda: missing)
    for gpu, remedy in (
        ("none seen", "no NVIDIA GPU is seen here: leave it out of runtime.providers, or let the next one"),
        (
            "H200",
            "put the folder of that library on LD_LIBRARY_PATH; pip install 'onnxruntime-gpu[cuda,cudnn]' brings it",
        ),
    ):
        monkeypatch.setattr(machine, "gpu", lambda gpu=gpu: gpu)
        first, second = doctor.examine()["providers"]
        assert remedy in first["hint"]
        assert second == {"name": "CPUExecutionProvider", "works": True, "why": "", "hint": ""}


def test_a_provider_that_is_listed_but_does_not_run_is_not_called_working(workspace):
    missing = set(onnxruntime.get_available_providers()) - {"CPUExecutionProvider"}
    if not missing:
        pytest.skip("this onnxruntime lists no provider but the CPU's")
    lines = {
        line.split()[0]: line for line in workspace.run("doctor").out.splitlines() if "ExecutionProvider  " in line
    }

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


def test_what_is_installed_and_can_not_be_imported_is_a_problem_and_no_bug(workspace):
    """As where a library of CUDA's is missing: that is when somebody asks."""
    for name in ("onnxruntime", "onnxsim"):
        workspace.write(
            f"site/{name}/__init__.py", f"raise OSError('lib{name}.so.13: cannot open shared object file')\n"
        )
    workspace.env["PYTHONPATH"] = str(workspace.root / "site")

    told = json.loads(workspace.run("doctor", "--json", code=1).out)
    assert [one["fact"] for one in told["problems"]] == [
        f"{name} can't be imported: OSError: lib{name}.so.13: cannot open shared object file"
        for name in ("onnxruntime", "onnxsim")
    ]
    assert told["providers"] == []
    again = "install it again, or what it lacks: pip install --force-reinstall"
    (runtime,) = distributions.runtime_distributions()
    assert [one["hint"] for one in told["problems"]] == [f"{again} {runtime}", f"{again} onnxsim"]
    ran = workspace.run("doctor", code=1)
    assert f"{again} onnxsim" in " ".join(ran.out.split()) and ran.err == "" and "No problems" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


def test_no_provider_that_does_not_work_is_without_a_remedy(monkeypatch):
    broken = [
        ("CUDAExecutionProvider", "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"),
        ("CoreMLExecutionProvider", "not compiled in"),
    ]
    monkeypatch.setattr("onnxbuild.runtimes.onnxruntime.usable_providers", lambda: broken)
    for gpu in ("H200", "none seen"):
        monkeypatch.setattr(machine, "gpu", lambda gpu=gpu: gpu)
        cuda, core_ml = (one["hint"] for one in doctor.examine()["providers"])
        assert core_ml == "leave it out of runtime.providers, or let the next one in that list stand in"
        assert cuda == (f"no NVIDIA GPU is seen here: {core_ml}" if gpu == "none seen" else core_ml)


def _model() -> bytes:
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    return onnx.parser.parse_model(text).SerializeToString()
