"""Training a router on labels; Lightning stays here."""
