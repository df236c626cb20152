"""Makes the pages in `docs/reference/` from the code, a file a page, so that they cannot go stale."""
