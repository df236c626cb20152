"""Adapters: bundles and their serving artifacts, weights, and the stack that serves many of them in one forward."""
