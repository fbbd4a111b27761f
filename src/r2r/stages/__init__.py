"""The stages of an experiment: the only place where the parts are put together."""
