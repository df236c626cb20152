"""The PEFT methods: one file each, and one line in the table. Other rooms use a method only through its object."""

from collections.abc import Mapping

from shopfit.methods.adalora import AdaLora
from shopfit.methods.lora import PLAIN
from shopfit.methods.method import Form, PeftMethod
from shopfit.methods.prefix import PrefixTuning

__all__ = ["METHODS", "Form", "PeftMethod"]

METHODS: Mapping[str, PeftMethod] = {method.name: method for method in (PLAIN, AdaLora(), PrefixTuning())}
"""Every method that a recipe may name, by name."""
