"""The gateway: every merchant's adapter over HTTP, by key.

One process speaks HTTP (it never loads a model), and one process a base answers. All that must outlive them, or be
known to other gateways, is in the registry.
"""
