"""The documentation: pages, and what makes its reference pages and its site of them."""
