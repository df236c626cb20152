"""The PEFT methods, a file each that is named after it. Other rooms use a method only through its object."""

from collections.abc import Mapping
from importlib import import_module

from shopfit.methods.method import Form, PeftMethod
from shopfit.recipe.methods import METHOD_RULES

__all__ = ["METHODS", "Form", "PeftMethod"]

METHODS: Mapping[str, PeftMethod] = {name: import_module(f"shopfit.methods.{name}").METHOD for name in METHOD_RULES}
"""Every method that a recipe may name, by name."""
