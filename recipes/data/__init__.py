"""Real data for the recipes here, from packages that ship it: what is calibrated on, what is measured on, and by what."""
