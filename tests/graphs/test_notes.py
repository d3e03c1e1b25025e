from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from onnxbuild.graphs import modelfile, notes
from onnxbuild.graphs.normalise import normalise

PROPS = {
    "description": "trained on /data/sets/coco/2017",
    "namespace": "prod",
    "pkg.version": "1.2",
    "names": "{0: 'person'}",
}


def model():
    made = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }')
    helper.set_model_props(made, PROPS)
    made.doc_string, made.graph.doc_string, made.graph.input[0].doc_string = "(c) someone", "head", "RGB, 0..1"
    made.graph.node[0].doc_string = "the only node"
    inner = helper.make_tensor_value_info("y_before", TensorProto.FLOAT, ["N"])
    inner.doc_string = "before the head"
    made.graph.value_info.append(inner)
    return made


def test_what_an_author_wrote_stays_and_what_tools_add_goes():
    made = model()
    own = notes.of(made)
    made.graph.output[0].doc_string = "added"
    made.metadata_props.add(key="pkg.torch.trace", value="a")
    made.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N"]))
    normalise(made, own)

    assert {entry.key: entry.value for entry in made.metadata_props} == PROPS
    assert notes.of(made) == own
    assert [value.name for value in made.graph.value_info] == ["y_before"]
    once = made.SerializeToString()
    normalise(made, own)
    assert made.SerializeToString() == once


def test_without_an_author_everything_goes():
    made = model()
    normalise(made)
    assert [entry.key for entry in made.metadata_props] == ["names"]
    assert notes.of(made).docs == frozenset()
    assert not made.graph.value_info


def test_what_was_dropped_and_changed_is_told():
    before, after = model(), model()
    assert notes.changes(before, after) == []
    del after.metadata_props[:2]
    after.graph.input[0].doc_string = ""
    after.ir_version, after.domain = 10, "com.acme"
    before.opset_import.add(domain="com.old", version=1)
    assert notes.changes(before, after) == [
        "dropped metadata: description, namespace",
        "dropped 1 doc string: 'RGB, 0..1'",
        "dropped the operator sets com.old, which no node needs now",
        "changed the IR version from 8 to 10",
        "changed the model's domain from none to com.acme",
    ]


def test_a_tensor_that_two_names_share_is_counted_as_often_as_it_is_written(tmp_path):
    made = model()
    for name in ("a", "b"):
        made.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), name))
    ref, refs = modelfile.save(made, None, tmp_path / "objects")
    assert len(refs) == 1
    (written,) = modelfile.write(tmp_path / "objects" / ref, tmp_path / "m.onnx")
    kept = onnx.load(tmp_path / "objects" / ref, load_external_data=False)
    assert abs(modelfile.standalone_bytes(kept) - written.stat().st_size) < 400
