"""Inference on tensors. Imports cluster only, and never Ray."""
