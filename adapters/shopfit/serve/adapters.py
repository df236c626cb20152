"""What a model name means now: the version behind it, and what the gateway must know to ask it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shopfit.errors import UnknownReference, UnknownVersion
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.tasks import Task
from shopfit.registry import Grant, Reference, Registry, Revision, Version
from shopfit.registry.alias_cache import AliasCache
from shopfit.registry.grant import Scope
from shopfit.serve.engines.pool import BaseKey
from shopfit.serve.registry_threads import RegistryThreads

_SHOWN = 5  # versions that a message names
_LONGEST_SHOWN = 200  # characters of a model's name
_FACTS = 10_000  # versions whose facts stay in memory, 1 kB each


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What of a version's manifest the gateway needs.

    Args:
        task: what it does.
        base: that it was trained on, which is the engine that answers.
        fields: names of the fields that its prompt shows, in order.
        text_field: the one that a plain text is; empty if the prompt shows only items.
        labels: names of its answers, where every question has the same ones.
        tells_sure: whether its recipe sets the precision from which an answer is sure.
    """

    task: Task
    base: BaseKey
    fields: tuple[str, ...]
    text_field: str
    labels: tuple[str, ...]
    tells_sure: bool


class Adapters:
    """Adapters by name, as a key may see them. For the event loop; the registry is asked on other threads.

    Args:
        registry: where they are.
        threads: that ask it.
        revision: the registry's, as it was seen last.
    """

    def __init__(self, registry: Registry, threads: RegistryThreads, revision: Callable[[], Revision]) -> None:
        self._registry = registry
        self._threads = threads
        self._names = AliasCache(registry, revision=revision)
        self._facts: OrderedDict[str, AdapterFacts] = OrderedDict()
        self._lock = threading.Lock()

    async def find(self, model: str, grant: Grant) -> tuple[Reference, Version]:
        """The version that `model` names now.

        Raises:
            UnknownReference: if it is no name, names nothing, or names what the key may not use; the message is the
                same for all of them.
            RegistryError: if it must be looked up, and the registry cannot be read.
        """
        reference = named_reference(model, grant, "infer")
        try:
            return reference, await self.look_up(reference)
        except UnknownVersion as error:
            raise unknown_version(model, reference, error.versions) from None
        except UnknownReference:
            raise unknown_model(model) from None

    async def look_up(self, reference: Reference) -> Version:
        """What a reference names now.

        Raises:
            UnknownReference: if it names nothing.
            RegistryError: if it must be looked up, and the registry cannot be read.
        """
        known = self._names.known(reference)
        return await self._threads.run(self._names.resolve, reference) if known is None else known

    async def refresh(self, reference: Reference) -> None:
        """See at once that a reference names another version; raises as `look_up` does."""
        await self._threads.run(self._names.resolve, reference)

    async def facts(self, version: Version) -> AdapterFacts:
        """What is to be known of a version.

        Raises:
            BundleError: if its files are damaged, or its recipe is not one that this release reads.
            RegistryError: if the registry cannot be read.
        """
        with self._lock:
            if (known := self._facts.get(version.digest)) is not None:
                self._facts.move_to_end(version.digest)
                return known
        facts = await self._threads.run(self.read, version)
        with self._lock:
            self._facts[version.digest] = facts
            if len(self._facts) > _FACTS:
                self._facts.popitem(last=False)
        return facts

    def close(self) -> None:
        """Watch no names any more."""
        self._names.close()

    def read(self, version: Version) -> AdapterFacts:
        """What is to be known of a version, from its manifest; it blocks. Raises as `facts` does."""
        manifest = self._registry.manifest(version)
        recipe = parse_recipe(manifest.recipe_snapshot)
        texts = [name for name in recipe.fields if name not in recipe.data.item_fields]
        base = BaseKey(manifest.base.name, manifest.base.quantization)
        fields, labels = tuple(dict.fromkeys([*recipe.fields, *recipe.spec.used])), tuple(manifest.labels)
        tells_sure = recipe.serve.precision is not None
        return AdapterFacts(recipe.task, base, fields, texts[0] if texts else "", labels, tells_sure)


def unknown_model(model: object) -> UnknownReference:
    """The one answer for a name that is none, that names nothing, and that names what is another merchant's.

    Args:
        model: as it was sent.
    """
    return UnknownReference(
        f"the model {_shown(model)} does not exist, or your key may not use it (allowed: merchant/recipe, with @alias "
        "or @number)",
        next_step="ask /v1/models for the models of your key",
    )


def unknown_version(model: str, reference: Reference, there: Sequence[str]) -> UnknownVersion:
    """The answer, to who may use an adapter, for a version of it that is not there.

    Args:
        model: as it was sent.
        reference: that it is.
        there: the adapter's versions; see `UnknownVersion`.
    """
    newest = there[-_SHOWN:]
    return UnknownVersion(
        f"the model {_shown(model)} does not exist (allowed: {reference.merchant}/{reference.recipe} with "
        f"{', '.join(newest)})",
        versions=newest,
        next_step="ask one of these by its number, or have it put into production: `shopfit registry promote`",
    )


def _shown(model: object) -> str:
    return repr(model) if len(repr(model)) <= _LONGEST_SHOWN else f"{repr(model)[:_LONGEST_SHOWN]}…"


def named_reference(model: object, grant: Grant, scope: Scope) -> Reference:
    """What a client calls a model, if its key may do something with that merchant's.

    Raises:
        UnknownReference: if it is no name, or the key may not; the message is the same as of one that names nothing.
    """
    try:
        reference = Reference.parse(model)  # type: ignore[arg-type]
    except UnknownReference:
        raise unknown_model(model) from None
    if not grant.allows(scope, reference.merchant):
        raise unknown_model(model)
    return reference
