"""What the `pytorch` source is made of: loading a model, calling it, exporting it. Never imported on the light path."""
