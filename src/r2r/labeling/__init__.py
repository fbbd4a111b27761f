"""Path-following labels: which of the SLM's tokens lead away from the LLM's reasoning."""
