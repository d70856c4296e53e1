"""One agent: gather what there is, plan, apply, publish."""
