"""R2R: token-level routing between a small and a large language model (arXiv 2505.21600)."""

__version__ = "0.1.0"
