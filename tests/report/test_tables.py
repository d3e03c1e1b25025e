from __future__ import annotations

from samples import resnet50, shipped

from onnxbuild.report import render, tables


def test_each_target_says_how_it_was_compared_and_why_it_was_not():
    assert tables.targets(shipped()) == [
        "  target          size  error / tolerance    p50 / onnxruntime  compared",
        "  openvino      102 MB             0.49 %    35.5 ms / 40.1 ms  run",
        "  coreml         617 B             0.49 %                    –  emulated",
        "  tensorrt      103 MB                  –                    –  built, not run",
        "  web                –                  –                    –  skipped",
        "  tensorrt: built, not run: no GPU",
        "  web: skipped: onnxruntime-web is not installed: npm install",
        "       onnxruntime-web@1.30.0",
    ]
    assert max(map(len, tables.targets(shipped()))) <= 80
    assert tables.targets(resnet50()) == []


def test_the_files_of_a_target_are_one_folder():
    assert tables.files(shipped(), lambda path: f"build/{path}") == [
        "  build/model.onnx  102 MB",
        "  build/openvino/  2 files, 102 MB",
        "  build/coreml/  1 file, 617 B",
        "  build/tensorrt/  1 file, 103 MB",
    ]


def test_what_stands_below_the_table_is_no_note():
    assert tables.notes(shipped()) == tables.notes(resnet50())


def test_pages_say_emulated_beside_what_passed():
    page, text = render.html(shipped()), render.markdown(shipped())

    assert '<span class="title">parity/coreml <span class="soft">emulated</span></span>' in page
    assert '<span class="title">parity/openvino</span>' in page
    assert "<td>emulated</td>" in page
    assert "coreml: emulated: this bounds the conversion, and no device." in page
    assert "| ✅ | parity/coreml, emulated | 1 passed |" in text
    assert "| tensorrt | 103 MB | – | – | built, not run: no GPU |" in text
    assert page.index("<h2>Targets</h2>") < page.index("<h2>Graphs, pass by pass</h2>")
    assert text.index("### Targets") < text.index("- optimize/1-onnxsim: onnxsim folded")
