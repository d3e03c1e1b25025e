"""`check --deep`: what only the model itself can tell of a recipe, before anything is exported."""

from __future__ import annotations

from projects import tiny


def test_a_model_that_agrees_is_run_once_and_a_build_takes_what_it_computed(workspace):
    tiny(workspace)
    asked = workspace.run("check", "--deep", "tiny.yaml")

    assert asked.out.endswith("1 recipe checked, no problems, and every model agrees.\n")
    assert not (workspace.root / "build").exists(), "nothing was published"
    assert " built " not in workspace.run("check", "--deep", "tiny.yaml").out, "a second look runs nothing"
    workspace.run("run", "tiny.yaml")
    assert workspace.statuses("tiny")["reference"] == "cached"


def test_what_the_model_does_not_take_or_give_is_told_without_an_export(workspace):
    tiny(workspace)
    text = (workspace.root / "tiny.yaml").read_text()
    workspace.write(
        "outputs.yaml", text.replace("name: tiny", "name: outputs").replace("outputs: [y]", "outputs: [y, z]")
    )
    workspace.write("deep.yaml", text.replace("name: tiny", "name: deep"))
    workspace.write("broken.yaml", text.replace("version: 1", "version: 7"))
    asked = workspace.run("check", "--deep", "outputs.yaml", "deep.yaml", "broken.yaml", code=2)

    assert (
        "outputs.yaml: reference: the recipe declares 2 outputs (y, z), the model returns one unnamed tensor\n"
        in asked.err
    )
    assert "    hint: name outputs as the model does" in asked.err
    assert "broken.yaml:1:10: version:" in asked.err
    assert "deep.yaml: " not in asked.err
    assert "2 recipes checked, 1 with a model that disagrees.\n" in asked.out
    assert workspace.run("check", "--deep", "outputs.yaml", code=1).out.endswith(
        "1 recipe checked, 1 with a model that disagrees.\n"
    )
    assert not list((workspace.root / ".onnxbuild/objects").glob("*.onnx")), "nothing was exported"
