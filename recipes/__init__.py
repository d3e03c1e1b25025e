"""The recipes of this repository, and the models they build."""
