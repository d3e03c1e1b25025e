from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from onnxbuild.errors import StageError
from onnxbuild.recipe.running import Runtime
from onnxbuild.runtimes import onnxruntime


def runtime(**section):
    return msgspec.to_builtins(msgspec.convert(section, Runtime))


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(onnxruntime.tiny_model())
    return path


def test_a_session_runs(tiny, tmp_path):
    session, providers, notes = onnxruntime.open_session(tiny, runtime(), tmp_path)
    assert (providers, notes) == (["CPUExecutionProvider"], [])
    found = onnxruntime.caller(session, ["y"])({"x": np.array([-1], np.float32), "not in the graph": np.zeros(1)})
    assert found["y"].tolist() == [-1]


def test_every_session_option_arrives():
    section = {
        "graph_optimization_level": "extended",
        "intra_op_num_threads": 3,
        "inter_op_num_threads": 2,
        "execution_mode": "parallel",
        "enable_mem_pattern": False,
        "enable_cpu_mem_arena": False,
        "config_entries": {"session.set_denormal_as_zero": "1"},
    }
    options = onnxruntime.session_options(runtime(session=section)["session"])
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.enable_mem_pattern, options.enable_cpu_mem_arena) == (False, False)
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"


@pytest.mark.parametrize("level", ["disable_all", "basic", "extended", "layout", "all"])
def test_every_optimization_level_is_onnxruntimes(level):
    section = runtime(session={"graph_optimization_level": level})["session"]
    name = {"disable_all": "ORT_DISABLE_ALL"}.get(level, f"ORT_ENABLE_{level.upper()}")
    assert onnxruntime.session_options(section).graph_optimization_level == getattr(ort.GraphOptimizationLevel, name)


def test_an_unknown_provider_is_noted_or_refused(tiny, recwarn, tmp_path):
    _, providers, notes = onnxruntime.open_session(tiny, runtime(providers=["NoSuchExecutionProvider"]), tmp_path)
    assert providers == ["CPUExecutionProvider"]
    assert notes == ["asked for NoSuchExecutionProvider, got CPUExecutionProvider"]
    assert not recwarn.list
    with pytest.raises(StageError) as caught:
        onnxruntime.open_session(tiny, runtime(require=["NoSuchExecutionProvider"]), tmp_path)
    assert caught.value.fact == (
        "runtime.require asks for NoSuchExecutionProvider, but onnxruntime runs on CPUExecutionProvider"
    )
    assert "onnxbuild doctor" in caught.value.hint


def test_a_graph_that_can_not_be_opened(tmp_path, capfd):
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(StageError, match="onnxruntime can't open the graph"):
        onnxruntime.open_session(path, runtime(), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_usable_providers_are_proved_in_silence(capfd):
    found = dict(onnxruntime.usable_providers())
    assert found["CPUExecutionProvider"] == ""
    assert list(found) == ort.get_available_providers()
    for why in found.values():
        assert "\n" not in why
        assert "/onnxruntime_src" not in why
    assert capfd.readouterr() == ("", "")


def test_tensorrt_keeps_engines_in_the_stages_own_folder(tiny, tmp_path, monkeypatch):
    """The options that onnxruntime is handed; without a GPU it opens the session on the CPU, and that is said."""
    handed = []
    session = ort.InferenceSession

    def opened(*arguments, **named):
        handed.append(dict(zip(named["providers"], named["provider_options"], strict=True)))
        return session(*arguments, **named)

    monkeypatch.setattr(ort, "InferenceSession", opened)
    named = ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    if named[0] not in ort.get_available_providers():
        pytest.skip("onnxruntime was built without TensorRT")
    for own in ({"trt_fp16_enable": "True"}, {"trt_engine_cache_path": str(tmp_path / "mine")}):
        asked = runtime(providers=named, provider_options={named[0]: own})
        _, actual, notes = onnxruntime.open_session(tiny, asked, tmp_path / "scratch")
        assert notes == ([] if actual[0] == named[0] else [f"asked for {named[0]}, got {', '.join(actual)}"])
    kept = str(tmp_path / "scratch/compiled")

    assert handed == [
        {
            named[0]: {"trt_engine_cache_path": kept, "trt_timing_cache_path": kept, "trt_fp16_enable": "True"},
            "CPUExecutionProvider": {},
        },
        {
            named[0]: {"trt_engine_cache_path": str(tmp_path / "mine"), "trt_timing_cache_path": kept},
            "CPUExecutionProvider": {},
        },
    ]


@pytest.mark.gpu
def test_cuda_runs(tiny, tmp_path):
    if dict(onnxruntime.usable_providers()).get("CUDAExecutionProvider") != "":
        pytest.skip("CUDA does not work here")
    _, providers, notes = onnxruntime.open_session(
        tiny, runtime(providers=["CUDAExecutionProvider"], require=["CUDAExecutionProvider"]), tmp_path
    )
    assert providers[0] == "CUDAExecutionProvider"
    assert notes == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Said: /core/shape.h:91 ort::Helper(const Shape&, bool) size was {2,3}\n",
            "Said: size was {2,3}",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Fatal error: com.acme:Gate(-1) is not a registered function/op",
            "com.acme:Gate(-1) is not a registered function/op",
        ),
        ("", "RuntimeError"),
    ],
)
def test_first_line(said, expected):
    assert onnxruntime.first_line(RuntimeError(said)) == expected


def test_refusal():
    assert onnxruntime.refusal(onnxruntime.tiny_model()) == ""
    assert "opset" in onnxruntime.refusal(onnxruntime.tiny_model(opset=99)).lower()
