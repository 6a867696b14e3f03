"""How the shipped checkpoints were made: frozen, not in the wheel, imported by nobody."""
