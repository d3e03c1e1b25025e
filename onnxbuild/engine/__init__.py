"""Running recipes, from loaded ones to their reports. `Session.build_all` in `session` is the whole of it on one page.

What it calls is split by whom it is about: `scheduler` knows the stages of all recipes (when one may start), `recipe_run`
those of one recipe (which the store answers, which are ready, what came of each), `status` a single stage (how it
ended), `reporting` the report, `origins` and `assembly` what goes into it, `leftovers` what lies beside it, `locking` what a
lock file has to say of it, `memory` the machine's; `types` is what they hand to one another; `tuning` builds
variants of a recipe, and `sensitivity` says which. None of them knows what a stage
does, nor where a model comes from.
"""

from __future__ import annotations

__all__ = ["canary", "first_recipe", "locking", "revisions", "session", "tuning", "watching"]
