from __future__ import annotations

import projects

from onnxbuild import recipe
from onnxbuild.plan import planner
from onnxbuild.plan.dag import Stage


def stages(workspace) -> dict[str, Stage]:
    """The stages of the workspace's recipe, by name."""
    loaded = recipe.load(workspace.root / "tiny.yaml")
    return {stage.name: stage for stage in planner.plan(loaded.recipe, loaded.root).stages}


def test_what_a_stage_takes_from_comes_first(workspace):
    first = {stage.name: stage.upstream[0] for stage in stages(projects.tiny(workspace)).values() if stage.upstream}

    assert first == {
        "export": "reference",
        **dict.fromkeys(("check/export", "parity/export", "optimize/1-onnxoptimizer"), "export"),
        **dict.fromkeys(
            ("check/1-onnxoptimizer", "parity/1-onnxoptimizer", "optimize/2-onnxsim"), "optimize/1-onnxoptimizer"
        ),
        **dict.fromkeys(("check/2-onnxsim", "parity/2-onnxsim", "benchmark", "package"), "optimize/2-onnxsim"),
    }


def test_the_exporter_is_in_the_key_of_the_export_alone(workspace):
    """An equal graph is not checked again, whoever wrote it."""
    projects.tiny(workspace).replace("tiny.yaml", "opset: 17", "opset: 18")
    before = stages(workspace)
    workspace.replace("tiny.yaml", "exporter: torchscript", "exporter: dynamo")
    after = stages(workspace)

    assert {name for name in before if before[name] != after[name]} == {"export", "package"}
