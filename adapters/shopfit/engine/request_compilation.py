"""Compiles a request and its adapter to `Work`: prompts, candidates, and how scores or tokens become the answer."""

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shopfit.base.by_language import encoder_of
from shopfit.base.load import Base
from shopfit.base.merchant_search import for_parts, with_encoder
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import Question, Text
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.adapter_cache import Loaded
from shopfit.engine.candidates import RERANKED, candidates, found_parts, of_texts, offered, searched_first, searches
from shopfit.engine.constraints import Constraints
from shopfit.engine.decoding import GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.engine.indexes import Indexes
from shopfit.engine.jobs import Work
from shopfit.engine.logprobs import LogProbs, TokenTexts
from shopfit.engine.offline_scoring import answer_constraint
from shopfit.engine.sampling import Sampling
from shopfit.engine.validation import MOST_ITEMS, check
from shopfit.errors import RequestError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Fields
from shopfit.merchant.histories import past_items
from shopfit.merchant.search import CatalogIndex, Embed, titles_index
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.tasks import Task
from shopfit.tasks import closed_task_of, scored_task_of, task_of
from shopfit.tasks.embeddings import EmbedAnswer, EmbedRequest
from shopfit.tasks.explanations import ExplainRequest, explain
from shopfit.tasks.generate import GenerateAnswer, GenerateRequest
from shopfit.tasks.rank import RankFusion, item_parts
from shopfit.tasks.rank_answers import RankRequest, RecommendRequest, ranking, recommendations
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.scored import Parts
from shopfit.tasks.tenant import Adapter, Tenant

if TYPE_CHECKING:
    from concurrent.futures import Future

_CURRENT = 128  # adapters with a catalog other than their bundle's that are cached
_LEAST = 1e-12  # length that a vector is divided by


class Compiler:
    """Compiles requests to work. Any thread may use it.

    Args:
        base: that answers.
        embed: for recommendations, turns texts into vectors; None to search by words only.
    """

    def __init__(self, base: Base, embed: Embed | None = None) -> None:
        self._base = base
        self._embed = embed
        self._catalogs: dict[str, Catalog] = {}
        self._current: OrderedDict[Hashable, tuple[Loaded, Tenant, Prompter]] = OrderedDict()
        self._lock = threading.Lock()
        self._indexes = Indexes(embed)
        self._token_texts = TokenTexts(base.tokenizer)
        head = base.model.get_output_embeddings()
        self._constraints = None if head is None else Constraints(base.tokenizer, head.weight.shape[0])

    def close(self) -> None:
        """Build no more indexes."""
        self._indexes.close()

    def set_catalog(self, merchant: str, catalog: Catalog | None) -> None:
        """Replace a merchant's catalog from its bundles by another one; None restores those. Returns at once.

        Raises:
            RequestError: if it is no catalog.
        """
        if catalog is None:
            self._catalogs.pop(merchant, None)
            return
        if not isinstance(catalog, Catalog):
            raise RequestError(
                f"the catalog of {merchant} is a {type(catalog).__name__} (allowed: a Catalog, or None)",
                next_step="make one: Catalog({item.id: item for item in items})",
            )
        self._catalogs[merchant] = catalog
        for encoder in self._indexes.encoders(merchant):  # recommendations use it: start building the new index now
            self._indexes.of(merchant, catalog, encoder)

    def has_catalog(self, merchant: str) -> bool:
        """Whether a catalog was set for a merchant."""
        return merchant in self._catalogs

    def keeps(self, merchant: str) -> bool:
        """Whether a catalog was set for a merchant, or any of its catalogs is searched."""
        return merchant in self._catalogs or bool(self._indexes.encoders(merchant))

    def erase(self, merchant: str) -> None:
        """Drop everything cached of a merchant, and the catalog that was set for it."""
        self._catalogs.pop(merchant, None)
        self.forget(merchant)

    def forget(self, merchant: str) -> None:
        """Drop what was built from a merchant's catalogs."""
        self._indexes.forget(merchant)
        with self._lock:
            for key in [key for key, (loaded, *_) in self._current.items() if loaded.merchant == merchant]:
                del self._current[key]

    def waits_for(self, request: Request, loaded: Loaded) -> "Future[CatalogIndex] | None":
        """The index that must be built before a request can be compiled; None if it need not wait.

        Raises:
            RequestError: if the request cannot be answered by any adapter.
            EngineEnded: if the engine is closed.
        """
        check(request)
        tenant, _ = self._now(loaded)
        catalog = tenant.catalog
        if catalog is None or not isinstance(request, RankRequest | RecommendRequest):
            return None
        exact = False  # whether every item must be in the index
        if isinstance(request, RankRequest) and not searched_first(request, tenant):
            exact = True
            if request.documents is not None or not searches(tenant):
                return None
        wanted = tenant.merchant, catalog, encoder_of(tenant.recipe)
        index = self._indexes.of(*wanted)
        if index.done():
            return None
        older = self._indexes.ready(*wanted)
        if older is None or (exact and not all(map(older.__contains__, catalog))):
            return index
        return None

    def compile(self, request: Request, loaded: Loaded) -> Work:
        """The work of a request for which `waits_for` returned None, or an index that is built by now.

        Raises:
            RequestError: if the request does not fit the adapter or the base.
        """
        tenant, prompter = self._now(loaded)
        _check_task(request, tenant)
        work = self._work(request, tenant, prompter, loaded)
        self._check_length(work)
        return replace(work, version=tenant.name, digest=loaded.digest)

    def _check_length(self, work: Work) -> None:
        base, longest = self._base, self._base.scorer.longest_answer
        whats = [("the request", work.tokens, base.max_length)]
        if longest is not None:  # it is read apart from its prompt
            prompt, answer = work.apart
            whats = [("the request's prompt", prompt, base.max_length), ("an answer", answer, longest)]
        for what, tokens, most in whats:
            if tokens > most:
                raise RequestError(
                    f"{what} takes {tokens} tokens, and the base {base.name} attends to {most} at most",
                    next_step="shorten its texts, or lower `prompt.max_tokens` of the recipe, which shortens them",
                )

    def _work(self, request: Request, tenant: Tenant, prompter: Prompter, loaded: Loaded) -> Work:
        match request:
            case ExplainRequest():
                return Work(loaded.weights, lambda _: explain(request, tenant, prompter))
            case EmbedRequest():
                return Work(loaded.weights, _embedded, rows=[self._text(request, prompter)], loaded=loaded)
            case RankRequest() if searched_first(request, tenant):
                top = min(MOST_ITEMS, max(RERANKED, request.top or tenant.recipe.serve.top))
                found = self._search(request, tenant, prompter, [Rules()], top)
                ids = list(found)
                question = self._question(loaded, tenant, prompter, request.fields, ids)
                others = self._item_parts(tenant, ids, lambda wanted: found_parts(found, wanted))
                return self._scoring(loaded, question, lambda scores: ranking(request, tenant, ids, scores, others))
            case RankRequest():
                if request.documents is not None:
                    tenant, prompter = of_texts(tenant), prompter.of_texts()
                pool = candidates(request, tenant)
                question = self._question(loaded, tenant, prompter, request.fields, pool)
                if question is not None and request.documents is not None:
                    question = replace(question, recurring_answers=False)
                others = self._item_parts(
                    tenant, pool, lambda wanted: self._search_parts(tenant, prompter, request, pool, wanted)
                )
                return self._scoring(loaded, question, lambda scores: ranking(request, tenant, pool, scores, others))
            case RecommendRequest():
                rules = [tenant.recipe.serve.rules, *([request.rules] if request.rules else [])]
                found = self._search(request, tenant, prompter, rules, tenant.recipe.serve.retrieve)
                question = self._question(loaded, tenant, prompter, request.fields, list(found))
                others = self._item_parts(tenant, list(found), lambda wanted: found_parts(found, wanted))
                return self._scoring(
                    loaded, question, lambda scores: recommendations(request, tenant, found, scores, others)
                )
            case GenerateRequest() if self._constraints is None:
                raise RequestError(
                    f"the base {self._base.name} is an encoder, which writes no text",
                    next_step="generate with a decoder such as smollm2-135m",
                )
            case GenerateRequest():
                return Work(loaded.weights, _written, sequence=self._sequence(request, prompter, loaded))
            case _:
                task, others = closed_task_of(request.task), self._label_parts(tenant, prompter, request.fields)
                question = self._question(loaded, tenant, prompter, request.fields)
                return self._scoring(loaded, question, lambda scores: task.answer(tenant, scores, others))

    def _question(
        self, loaded: Loaded, tenant: Tenant, prompter: Prompter, fields: Fields, items: Sequence[str] | None = None
    ) -> Question | None:
        """What the base is asked; None if the blend leaves the adapter out, or there are no items to ask about."""
        if not tenant.speaks or (items is not None and not items):
            return None
        head = None if loaded.weights is None else loaded.weights.head
        return scored_task_of(tenant.recipe.task).question(prompter, tenant.labels, fields, items or (), head)

    def _scoring(self, loaded: Loaded, question: Question | None, answer: Callable[[Floats], Answer]) -> Work:
        """Work that scores one question and makes its answer; no question if the blend leaves the adapter out."""
        if question is None:
            return Work(loaded.weights, lambda _: answer(np.empty(0)))
        classes = None if loaded.weights is None else loaded.weights.classes
        plan = self._base.scorer.plan([question], classes=classes, known=loaded.vectors)
        return Work(loaded.weights, lambda results: answer(plan.scores(results)[0]), rows=plan.rows, loaded=loaded)

    def _text(self, request: EmbedRequest, prompter: Prompter) -> Text:
        if not self._base.encoder:
            raise RequestError(
                f"the base {self._base.name} is a decoder, whose texts have no vectors",
                next_step="embed with an adapter on an encoder such as minilm-l6",
            )
        return Text(prompter.encode(request.fields) if request.text is None else prompter.of_texts().item(request.text))

    def _now(self, loaded: Loaded) -> tuple[Tenant, Prompter]:
        """The tenant and its prompter with the catalog that is current now."""
        tenant = loaded.tenant
        catalog = self._catalogs.get(tenant.merchant)
        if catalog is None or tenant.catalog is None:
            return tenant, loaded.prompter
        with self._lock:
            known = self._current.get((loaded.key, tenant.name))
        if known is None or known[0].prompter is not loaded.prompter or known[1].catalog is not catalog:
            # of a large catalog this takes a while, in which others go on;
            # items that are no longer sold may still be in histories
            history = tenant.history if tenant.history is not None else Catalog({**tenant.catalog, **catalog})
            now = replace(tenant, catalog=catalog, history=history)
            prompter = now.prompter(self._base.tokenizer, self._base.scorer)
            known = loaded, now, prompter
            with self._lock:
                if self._catalogs.get(tenant.merchant) is catalog:  # nor was it erased meanwhile
                    self._current[loaded.key, tenant.name] = known
                while len(self._current) > _CURRENT:
                    self._current.popitem(last=False)
        return known[1:]

    def _sequence(self, request: GenerateRequest, prompter: Prompter, loaded: Loaded) -> GeneratedSequence:
        serve = prompter.recipe.serve
        prompt = prompter.encode(request.fields)
        behind = 0 if loaded.weights is None else loaded.weights.prefix_length
        wanted = {
            "max_new_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": None if request.stop is None else list(request.stop),
        }
        serve = serve.model_copy(update={name: value for name, value in wanted.items() if value is not None})
        schema = request.json_schema if request.json_schema is not None else serve.json_schema
        seed = random.getrandbits(64) if request.seed is None else request.seed
        penalties = request.frequency_penalty or 0.0, request.presence_penalty or 0.0
        assert self._constraints is not None
        apart = self._base.scorer.longest_answer
        return GeneratedSequence(
            prompt,
            IncrementalDetokenizer(self._base.tokenizer, serve.stop),
            max(1, min(serve.max_new_tokens, self._base.max_length - behind - len(prompt) if apart is None else apart)),
            Sampling(serve.temperature, serve.top_p, seed, *penalties),
            constraint=answer_constraint(self._constraints, prompter, schema),
            logprobs=None if request.logprobs is None else LogProbs(request.logprobs, self._token_texts),
            end=prompter.end,
        )

    def _search(
        self, request: Request, tenant: Tenant, prompter: Prompter, rules: Sequence[Rules], top: int
    ) -> Mapping[str, Mapping[str, float]]:
        """The best items that pass the rules, with their search scores."""
        catalog = tenant.catalog
        if catalog is None:
            raise RequestError(f"{tenant.name} has no catalog to recommend from", next_step="ask it to rank candidates")
        for rule in rules:
            if unclear := rule.unclear_currency(catalog.currencies):
                raise RequestError(f"rules for {tenant.name}: {unclear}", next_step="name one: rules.currency")
        allowed = offered(tenant, catalog, request.fields, rules)
        if not allowed:
            return {}
        history = past_items(request.fields, prompter.history)
        index = self._index(tenant, catalog)
        return index.search(prompter.query_text(request.fields), history, allowed, top)

    def _label_parts(self, tenant: Tenant, prompter: Prompter, fields: Fields) -> Parts:
        """What a blend adds to the adapter's scores of labels."""
        blend = tenant.blend
        if blend is None:
            return {}
        embed = for_parts(self._embed, tenant.recipe) if blend.encoded else None
        if blend.encoded:
            _check_encoder(tenant, embed)
        return closed_task_of(tenant.recipe.task).parts(blend, tenant.labels, fields, prompter.text(fields), embed)

    def _item_parts(
        self, tenant: Tenant, pool: Sequence[str], search: Callable[[Callable[[str], bool]], Parts]
    ) -> Parts:
        """What a blend adds to the adapter's scores of items; `search` gives the scores of chosen retrievers."""
        blend = tenant.blend
        if blend is None or not pool:
            return {}
        if blend.encoded:
            _check_encoder(tenant, with_encoder(self._embed, encoder_of(tenant.recipe)))
        assert isinstance(blend, RankFusion)
        return item_parts(blend, search(blend.weights.__contains__), pool)

    def _search_parts(
        self,
        tenant: Tenant,
        prompter: Prompter,
        request: RankRequest,
        pool: Sequence[str],
        wanted: Callable[[str], bool],
    ) -> Parts:
        """Search scores of the items of a pool; without a catalog, of their titles."""
        history = past_items(request.fields, prompter.history)
        catalog = tenant.catalog
        if catalog is None:
            index = titles_index(pool, with_encoder(self._embed, encoder_of(tenant.recipe)))
        else:
            index = self._index(tenant, catalog)
        return index.scores(prompter.query_text(request.fields), history, pool, wanted)

    def _index(self, tenant: Tenant, catalog: Catalog) -> CatalogIndex:
        wanted = tenant.merchant, catalog, encoder_of(tenant.recipe)
        return self._indexes.ready(*wanted) or self._indexes.of(*wanted).result()


def _check_encoder(tenant: Tenant, embed: Embed | None) -> None:
    """Refuse to answer without the sentence encoder that an adapter's score fusion was fitted with."""
    if embed is None:
        raise RequestError(
            f"{tenant.name} answers with the help of a sentence encoder, and this engine has none",
            next_step="make the engine with Engine.load, or give it `embed`",
        )
    tenant.check_encoder(embed)


def request_for(task: Task, adapter: Adapter, fields: Fields, options: Mapping[str, Any]) -> Request:
    """The request of an adapter's task.

    Args:
        task: the adapter's.
        adapter: that answers.
        fields: what the recipe's prompt shows, by name.
        options: other fields of the task's request, by name.

    Raises:
        RequestError: if the request has no such field.
    """
    kind = task_of(task).request
    allowed = kind.options()
    if unknown := [name for name in options if name not in allowed]:
        raise RequestError(
            f"a request to {task} has no option {', '.join(map(repr, unknown))}",
            next_step=f"it takes {', '.join(allowed)}" if allowed else "leave it out",
        )
    return kind(adapter, fields, **options)


def _written(sequence: GeneratedSequence) -> GenerateAnswer:
    assert sequence.finish is not None
    text, logprobs = sequence.detokenizer, sequence.logprobs
    return GenerateAnswer.of(text.text, sequence.finish, () if logprobs is None else logprobs.before(text.cut))


def _embedded(results: Sequence[Floats]) -> EmbedAnswer:
    vector = results[0] / max(float(np.linalg.norm(results[0])), _LEAST)  # of a base in bfloat16 it is a little off
    return EmbedAnswer(tuple(vector.tolist()))


def _check_task(request: Request, tenant: Tenant) -> None:
    task = tenant.recipe.task
    if not isinstance(request, EmbedRequest | ExplainRequest) and task != request.task:
        what = f"{tenant.name} is an adapter to {task}, not to {request.task}"
        raise RequestError(what, next_step=f"ask it with `{task}`")
