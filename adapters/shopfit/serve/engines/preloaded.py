"""What engines need before they load a base, imported once: in the process that they are forked from."""

import threading

from shopfit.libraries import quiet

quiet()

from tqdm.std import tqdm  # noqa: E402

# an engine draws no bars with other processes: tqdm's own lock would be a semaphore that nobody removes
tqdm.set_lock(threading.RLock())

# torch and transformers with it, and the families of the packaged bases; nothing of them has run yet
import transformers.modeling_utils  # noqa: E402
import transformers.models.bert.modeling_bert  # noqa: E402
import transformers.models.llama.modeling_llama  # noqa: E402
import transformers.tokenization_utils_tokenizers  # noqa: E402, F401

import shopfit.engine  # noqa: E402
import shopfit.registry.registry  # noqa: E402
import shopfit.serve.catalog_worker  # noqa: E402, F401
