"""To be written."""

from shopfit.serve.console.routes import page_router

router = page_router()
