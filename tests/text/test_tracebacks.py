from __future__ import annotations

from onnxbuild.text import tracebacks

LOG = """\
Constraints violated (batch)!
Traceback (most recent call last):
  File "models/m.py", line 7, in forward
    for i in range(x.shape[0]):
             ^^^^^^^^^^^^^^^^^
  File "lib/python3.11/site-packages/torch/nn/modules/module.py", line 1789, in _call_impl
    return forward_call(*args, **kwargs)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "models/inner.py", line 3, in run
  File "<frozen importlib>", line 1, in load
ValueError: two
  lines of it

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/usr/lib/python3.11/threading.py", line 1, in run
    self.start()
  File "lib/python3.11/contextlib.py", line 81, in inner
    return func(*args, **kwds)
torch.export.Error: it failed
"""


def test_frames_of_libraries_are_left_out_and_all_else_stays():
    assert tracebacks.without_libraries(LOG) == [
        "Constraints violated (batch)!",
        "Traceback (most recent call last):",
        '  File "models/m.py", line 7, in forward',
        "    for i in range(x.shape[0]):",
        "             ^^^^^^^^^^^^^^^^^",
        '  File "models/inner.py", line 3, in run',
        "ValueError: two",
        "  lines of it",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "torch.export.Error: it failed",
    ]


def test_a_log_without_frames_is_as_it_was():
    assert tracebacks.without_libraries("a\n\n  b\n") == ["a", "", "  b"]
    assert tracebacks.without_libraries("") == []
