"""Models written for the recipes: plain torch code that knows nothing of onnxbuild."""
