"""Engines in processes of their own: one a base, started, watched and restarted by the gateway."""
