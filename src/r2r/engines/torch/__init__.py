"""The in-process engine on plain PyTorch and transformers models."""
