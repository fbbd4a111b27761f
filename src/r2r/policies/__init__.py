"""How answers come about: by one model, by two that share them under a policy, or by either."""
