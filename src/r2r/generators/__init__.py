"""Generators answer prompts; the routed one and every baseline share one contract."""
