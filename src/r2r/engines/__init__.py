"""Engines run models: one engine a model, batching across requests."""
