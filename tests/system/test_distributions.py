"""What is known of the machine; the tools' versions are covered by the mutation matrix."""

from __future__ import annotations

import json

import several

from onnxbuild.system import machine


def test_the_gpu_is_the_driver_and_the_visible_cards(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.gpu(tmp_path) == "none seen"

    (tmp_path / "version").write_text("NVRM version: NVIDIA  Kernel Module  580.1  today\nGCC version: 13\n")
    for number in (0, 1):
        card = tmp_path / f"gpus/0000:0{number}:00.0"
        card.mkdir(parents=True)
        (card / "information").write_text(f"Model: \t\t NVIDIA H{number}00\nIRQ: 1\n")
    everything = machine.gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert everything == "NVIDIA H000, NVIDIA H100; visible: all; NVRM version: NVIDIA Kernel Module 580.1 today"
    assert "visible: 1" in machine.gpu(tmp_path)


def test_only_what_may_run_on_a_gpu_depends_on_it(workspace):
    several.add(
        workspace, "a", several.BENCHMARK, "runtime: {providers: [CUDAExecutionProvider, CPUExecutionProvider]}\n"
    )
    several.add(workspace, "b", several.BENCHMARK)
    workspace.run("run", "a.yaml", "b.yaml")

    def depending(recipe: str) -> set[str]:
        stages = json.loads(workspace.run("explain", recipe, "--json").out)["stages"]
        return {stage["name"] for stage in stages if "gpu" in stage["document"]["platform"]}

    assert depending("a.yaml") == {"parity/export", "benchmark"}
    assert depending("b.yaml") == set()
