"""Models for `test_tensorflow.py`, imported by its recipes from the project root; run by itself it saves some of them."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

S = tf.TensorSpec


class Branchy(tf.Module):
    """A loop whose turns depend on the data, with a branch in it; two outputs are one value, and one is an input."""

    def __init__(self):
        self.w = tf.Variable(tf.reshape(tf.range(16.0), [4, 4]) / 10)
        self.b, self.c = tf.Variable(tf.ones([4])), tf.Variable(tf.ones([4]))  # equal: one of them may be kept

    @tf.function
    def __call__(self, x, limit):
        h = tf.nn.relu(x @ self.w + self.b) + self.c
        while tf.reduce_sum(h) < limit:
            h = h + tf.abs(h) + 1.0
            h = h * 1.5 if tf.reduce_sum(h) > 100.0 else h * 2.0 + self.b
        return {"rows": h @ self.w, "mean": tf.reduce_mean(h, 1), "again": {"x": x, "rows": [h @ self.w]}}


class Net(tf.Module):
    """Two signatures, one of which counts its calls."""

    def __init__(self):
        self.w, self.calls = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), tf.Variable(0.0, name="calls")

    @tf.function(input_signature=[S([None, 3], name="x")])
    def rows(self, x):
        return {"y": x @ self.w, "total": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[S([None, 3], name="x")])
    def counted(self, x):
        self.calls.assign_add(1.0)
        return {"y": x * self.calls}


class Words(tf.Module):
    def __init__(self):
        keys, ids = tf.constant(["c", "a", "b"]), tf.constant([3, 1, 2], tf.int64)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, ids), -1)

    @tf.function
    def __call__(self, word):
        return {"id": self.table.lookup(word)}


class Large(tf.Module):
    """A table past protobuf's limit, of which little is read."""

    def __init__(self):
        self.table = tf.Variable(tf.zeros([600, 1 << 20]))

    @tf.function
    def __call__(self, x):
        return x + self.table[0, :3]


class Silent(tf.Module):
    """Without a way to call it."""


NET = Net()  # a bound function does not keep its module


def images(filters):
    kernel = tf.ones([3, 3, 2, 1]) * tf.range(1.0, filters + 1)
    return tf.function(lambda image: tf.nn.conv2d(image, kernel, 1, "SAME"))


def fixed():
    return tf.function(lambda x: x * 2.0, input_signature=[S([2, 3], name="x")])


def concrete():
    return tf.function(lambda x: (x * 2.0, x + 1.0)).get_concrete_function(x=S([None, 3]))


def plain():
    return lambda x: x


def gamma():
    return tf.function(lambda x: tf.math.lgamma(x))  # noqa: PLW0108  # a tf.function needs one of its own


def ragged():
    return tf.function(lambda x: tf.RaggedTensor.from_tensor(x))  # noqa: PLW0108  # ditto


def nested():
    return tf.function(lambda pair: pair["a"], input_signature=[{"a": S([2, 3])}])


def counter():
    return NET.counted


def save():
    """SavedModels: of two signatures; of TensorFlow 1; and one that, as of an old Keras, the present loader refuses."""
    from tensorflow.core.protobuf import saved_model_pb2

    both = {"serving_default": NET.rows, "counted": NET.counted}
    tf.saved_model.save(NET, "saved/net", signatures=both)
    tf.saved_model.save(NET, "saved/slots", signatures=both)
    file = Path("saved/slots/saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    root = saved.meta_graphs[0].object_graph_def.nodes[0]
    root.slot_variables.add(original_variable_node_id=1, slot_name="m", slot_variable_node_id=2)  # an optimizer's
    saved.meta_graphs[0].signature_def["sparse"].inputs["x"].coo_sparse.values_tensor_name = "x:0"
    file.write_bytes(saved.SerializeToString())

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "features")
        w = v1.get_variable("w", initializer=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], use_resource=False)
        keys, names = tf.constant([2, 0, 1], tf.int64), tf.constant(["c", "a", "b"])
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, names), "?")
        outputs = {"y": tf.matmul(x, w), "largest": table.lookup(tf.argmax(x, 1))}
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(session, "saved/old", {"x": x}, outputs, legacy_init_op=v1.tables_initializer())


def digest(shift=0):
    """Of the graph that a function is converted to, without a recipe; `shift` lets things lie elsewhere in memory."""
    import hashlib

    from onnxbuild.sources import tf2onnx

    elsewhere = [object() for _ in range(1000 * shift)]
    model = Branchy()
    made = tf2onnx.convert(model.__call__, [S([None, 4]), S([])], ["x", "limit"], [*"abcd"], 18, holder=model)
    tf2onnx.name_axes(made, {"dynamic_axes": {"x": {"0": "batch"}}})
    del elsewhere
    return hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()


if __name__ == "__main__":
    if "digest" not in sys.argv:
        save()
    print(digest(*map(int, sys.argv[2:])))
