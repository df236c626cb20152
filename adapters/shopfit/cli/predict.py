"""`shopfit predict`: one request, answered from the registry alone."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import as_json, console, only_prints, print_json
from shopfit.errors import RequestError
from shopfit.libraries import quiet
from shopfit.strict_json import parse_json

if TYPE_CHECKING:
    from shopfit.recipe.schema import Recipe


@click.command(short_help="Answer one request with an adapter from the registry.")
@click.argument("reference", type=TEXT)
@click.argument("request", type=TEXT, required=False)
@click.option("--query", type=TEXT, help="What the shopper types.")
@click.option(
    "--history",
    type=TEXT,
    multiple=True,
    metavar="ITEM",
    help="An item of the history, oldest first. Repeatable, or separated by commas.",
)
@click.option(
    "--field",
    "named",
    type=TEXT,
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other field of the prompt, or one that the task uses, such as user. Repeatable.",
)
@click.option(
    "--candidate",
    "candidates",
    type=TEXT,
    multiple=True,
    metavar="ITEM",
    help="rank: an item to choose from; the whole catalog by default.",
)
@click.option("--top", type=click.IntRange(1, 1_000_000), help="rank: how many items to show.")
@as_json
@only_prints
def command(
    reference: str,
    request: str | None,
    query: str | None,
    history: tuple[str, ...],
    named: tuple[str, ...],
    candidates: tuple[str, ...],
    top: int | None,
    as_json: bool,
) -> None:
    """Answer REQUEST with the adapter that REFERENCE names: merchant/recipe, with @alias or @number.

    REQUEST is the text of the prompt's main field, or a JSON object with several fields.
    """
    from shopfit.recipe.methods import LARGEST_RANK
    from shopfit.registry import Reference

    Reference.parse(reference)
    quiet()
    from shopfit.adapter.artifacts import needed
    from shopfit.base.embed import LateEmbedder
    from shopfit.base.load import load_base
    from shopfit.base.merchant_search import MerchantEmbedder
    from shopfit.engine import Engine, Tenant
    from shopfit.registry import Registry
    from shopfit.settings import Settings

    settings = Settings.from_environment()
    with Registry.open(settings) as registry:
        version = registry.resolve(reference)
        tenant = Tenant.of(registry.read(version, needed, settings.cache), version.name)
    fields = _fields(tenant.recipe, request, query, history, named)
    if not tenant.recipe.spec.items and (candidates or top is not None):
        raise RequestError(
            f"--candidate and --top are for ranking, and {version.name} is of task {tenant.recipe.task}",
            next_step="leave them out",
        )
    assert tenant.bundle is not None
    trained_on = tenant.bundle.manifest.base
    base = load_base(trained_on.name, settings.home, quantization=trained_on.quantization, dtype=trained_on.dtype)
    said = console(to_stderr=True)
    embed = MerchantEmbedder(
        LateEmbedder(settings.home, remember=False), tenant.merchant, lambda detail: said.row("search", detail)
    )
    engine = Engine(base, slots=1, max_rank=LARGEST_RANK, embed=embed)
    options = {"candidates": candidates or None, "top": top} if tenant.recipe.spec.items else {}
    answer = engine.ask(tenant, fields, **options)
    answer = replace(answer, version=version.name, digest=version.digest)
    if as_json:
        print_json({"version": version.name, "answer": answer})
        return
    console().print(version.name, style="dim")
    for line in answer.lines:
        console().print(line)


def _fields(
    recipe: "Recipe", request: str | None, query: str | None, history: tuple[str, ...], named: tuple[str, ...]
) -> dict[str, Any]:
    """The request's fields; what names none that the prompt shows or the task uses, or one twice, is a mistake."""
    texts = [name for name in recipe.fields if name not in recipe.data.item_fields]
    given: list[tuple[str, Any]] = []
    if request is not None and request.lstrip().startswith("{"):
        given += _json_fields(request).items()
    elif request is not None:
        if not texts:
            raise RequestError(
                f"recipe {recipe.name} shows no text field, so {request!r} has no place",
                next_step=f"send a JSON object with {', '.join(recipe.fields)}",
            )
        given.append((texts[0], request))
    if query is not None:
        given.append(("query", query))
    if history:
        given.append(("history", [item for part in history for item in part.split(",") if item]))
    for pair in named:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RequestError(
                f"--field {pair!r} is not NAME=VALUE", next_step=f"name one of {', '.join(recipe.fields)}"
            )
        given.append((name, value))
    fields = dict(given)
    known = dict.fromkeys([*recipe.fields, *recipe.spec.used])
    if unknown := sorted(fields.keys() - set(known)):
        raise RequestError(
            f"the prompt of recipe {recipe.name} shows no {', '.join(map(repr, unknown))} "
            f"(allowed: {', '.join(known)})",
            next_step="leave it out, or name a field of the prompt",
        )
    names = [name for name, _ in given]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(f"{', '.join(twice)} is given more than once", next_step="give each field one value")
    return fields


def _json_fields(request: str) -> dict[str, Any]:
    try:
        fields = parse_json(request)
    except ValueError as error:
        raise RequestError(
            f"the request looks like JSON but is not: {error}", next_step="quote it as one argument, or send plain text"
        ) from None
    assert isinstance(fields, dict)
    return fields
