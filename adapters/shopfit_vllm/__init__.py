"""vLLM serves the registry's adapters: a resolver that brings a version's plain LoRA where vLLM loads it from.

vLLM pins transformers and other libraries below those that shopfit trains with, so this is a distribution of its own,
`shopfit-vllm`, from the same source: the registry's client and the bundle reader, without torch or transformers.
"""
