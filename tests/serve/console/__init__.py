"""The console, driven by a browser that ends with this package: it keeps an event loop running in its thread."""
