"""Asks the resolver for one name, as a vLLM server does, and prints the folder."""

import asyncio
import sys

from shopfit.settings import Settings
from shopfit_vllm.resolver import AdapterResolver

if __name__ == "__main__":
    resolver = AdapterResolver(Settings.from_environment(), max_rank=16)
    print(asyncio.run(resolver.resolve(sys.argv[1], sys.argv[2])))
    resolver.close()
