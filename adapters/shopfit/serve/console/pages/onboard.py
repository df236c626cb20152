"""Onboard: a merchant and a recipe are chosen, files are brought, columns corrected, and good rows taken."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import File, Form, UploadFile
from starlette.responses import Response

from shopfit.merchant.brought import Brought
from shopfit.merchant.kept_folder import find_merchant, kept_merchant
from shopfit.merchant.merchant import Merchant, is_language
from shopfit.recipe.names import is_slug
from shopfit.recipe.schema import Encoding, Recipe
from shopfit.recipe.shipped import sample_merchants
from shopfit.serve.console.bad_rows import as_table, together
from shopfit.serve.console.onboarding import (
    WantedFile,
    catalogs_of,
    files_of,
    has_data,
    known_merchants,
    merchant_called,
    methods_of,
    rating_recipe,
    read_upload,
    reading_of,
    ready,
    recipe_called,
    recipes,
    take_upload,
    understood,
    wanted_files,
)
from shopfit.serve.console.rendering import HEADERS
from shopfit.serve.console.routes import BadForm, NoPage, Visit, Visits, page_router
from shopfit.serve.console.uploads import Upload, find_upload, keep_upload
from shopfit.serve.large_bodies import MOST_UPLOAD
from shopfit.settings import merchant_folder

router = page_router()

_MOST_SHOWN = 200  # kinds of problems in a page; all of them are to be downloaded
_STATE = ("upload", "encoding", "headed", "decimal")
_NAMED = ("c.", "l.")  # columns and values of labels


class Place(NamedTuple):
    """What a page is about.

    Args:
        merchant: whose.
        recipe: which.
        files: that the recipe reads.
        may: whether the key may bring data and start runs.
    """

    merchant: Merchant
    recipe: Recipe
    files: list[WantedFile]
    may: bool


@router.get("/onboard")
async def choose(
    visit: Visits, merchant: str = "", recipe: str = "", taken: str = "", language: str = "", description: str = ""
) -> Response:
    """Choose a merchant and a recipe; or another name, if the one for a new merchant is taken."""
    known = await visit.gateway.threads.run_files(
        merchant, lambda: known_merchants(visit.home, visit.grant, visit.gateway.fleet)
    )
    lacking = await visit.gateway.threads.run_files(
        merchant, lambda: [one for one in known if not has_data(visit.home, one)]
    )
    chosen = merchant if merchant in known else visit.grant.merchant or ""
    there = await visit.gateway.threads.run(lambda: find_merchant(visit.home, chosen)) if chosen else None
    found = recipe if recipe in recipes() else ""
    same = await visit.gateway.threads.run_files(
        taken, lambda: find_merchant(visit.home, taken) if found and taken in known else None
    )
    has = [file for file in wanted_files(same, recipe_called(found)) if file.rows] if same is not None else []
    return visit.page(
        "onboard.html",
        known=known,
        lacking=lacking,
        samples=sample_merchants(),
        chosen=chosen,
        there=there,
        recipes=recipes(),
        chosen_recipe=recipe,
        same=same,
        same_has=has,
        typed={"language": language, "description": description},
        files_of=files_of,
        may=visit.grant.allows("publish", visit.grant.merchant),
    )


@router.post("/onboard")
async def chosen(
    visit: Visits,
    merchant: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    recipe: Annotated[str, Form()] = "",
    language: Annotated[str, Form()] = "en",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Go on with a merchant; a new one gets its folder, unless its name is taken."""
    wanted, language, description = merchant or name.strip(), language.strip(), description.strip()
    visit.check("publish", wanted)
    found = recipe_called(recipe)
    if language and not is_language(language):
        what = visit.t("onboard.no_language", language=language[:40])
        raise BadForm(what, next_step=visit.t("onboard.no_language_next"))

    def kept() -> bool:
        there = find_merchant(visit.home, wanted)
        if there is None:
            kept_merchant(visit.home, wanted, language=language, description=description)
        elif not merchant:
            twice = (there.language, there.description) == (language, description)
            return twice and not any(file.rows for file in wanted_files(there, found))
        return True

    if not await visit.gateway.threads.run_files(wanted, kept):
        return visit.to("/console/onboard", taken=wanted, recipe=recipe, language=language, description=description)
    return visit.to(f"/console/onboard/{wanted}/{recipe}")


@router.get("/onboard/{merchant}/{recipe}")
async def work(
    visit: Visits, merchant: str, recipe: str, upload: str = "", took: int | None = None, kept: int = 0
) -> Response:
    """What is there of a merchant for a recipe; and a file that was brought, if the address names one."""
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    brought: dict[str, Any] = {"upload": None}
    if upload:
        visit.check("publish", merchant)
        brought = await _brought(visit, place, upload, visit.request.query_params)
    return visit.page(
        "onboard_work.html",
        merchant=place.merchant,
        recipe=place.recipe,
        files=place.files,
        ready=ready(place.files),
        may=place.may,
        sample=not merchant_folder(visit.home, merchant).is_dir(),
        most=MOST_UPLOAD,
        took=took,
        kept=kept,
        methods=methods_of(place.merchant, place.recipe),
        home=f"/console/onboard/{merchant}/{recipe}",
        **brought,
    )


@router.post("/onboard/{merchant}/{recipe}/upload")
async def bring(
    visit: Visits,
    merchant: str,
    recipe: str,
    kind: Annotated[str, Form()] = "examples",
    pasted: Annotated[str, Form()] = "",
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Keep a file, or rows that were pasted, until its good rows are taken."""
    visit.reads(merchant)
    visit.check("publish", merchant)
    name = file.filename or "" if file is not None else ""
    content = await file.read() if file is not None and name else pasted.encode("utf-8", "replace")

    def kept() -> Upload:
        there, found = merchant_called(visit.home, merchant), recipe_called(recipe)
        if kind not in files_of(found):
            raise NoPage("this recipe reads no such file", next_step="go back to the start")
        if kind in ("examples", "test"):
            catalogs_of(there, found)
        return keep_upload(visit.home, merchant, recipe, kind, visit.grant.key, name, content)

    upload = await visit.gateway.threads.run_long(merchant, kept)
    return visit.to(f"/console/onboard/{merchant}/{recipe}", upload=upload.id)


@router.get("/onboard/{merchant}/{recipe}/bad.csv")
async def bad_rows(visit: Visits, merchant: str, recipe: str, upload: str = "") -> Response:
    """Everything that is wrong with a file, as a table that has its bad rows."""
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    visit.check("publish", merchant)
    found = (await _brought(visit, place, upload, visit.request.query_params))["brought"]
    headers = {**HEADERS, "content-disposition": 'attachment; filename="bad-rows.csv"'}
    return Response("\ufeff" + as_table(found), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/onboard/{merchant}/{recipe}/take")
async def take(
    visit: Visits,
    merchant: str,
    recipe: str,
    upload: Annotated[str, Form()] = "",
    how: Annotated[str, Form()] = "replace",
    without_bad: Annotated[bool, Form()] = False,
    without_test: Annotated[bool, Form()] = False,
    keep_unlabeled: Annotated[bool, Form()] = False,
) -> Response:
    """Write the good rows of a file into the merchant's folder."""
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    visit.check("publish", merchant)
    form = {name: str(value) for name, value in (await visit.request.form()).items()}

    def taken() -> tuple[int, int]:
        found = find_upload(visit.home, merchant, recipe, upload, visit.grant.key)
        columns = read_upload(visit.home, found, place.recipe, reading_of(form, None)).columns
        return take_upload(
            visit.home,
            found,
            place.recipe,
            reading_of(form, columns),
            visit.gateway.labels if keep_unlabeled else None,
            append=how == "append",
            without_bad=without_bad,
            without_test=without_test,
        )

    count, kept = await visit.gateway.threads.run_long(merchant, taken)
    waiting = {"kept": str(kept)} if kept else {}
    return visit.to(f"/console/onboard/{merchant}/{recipe}", took=str(count), **waiting)


@router.get("/onboard/{merchant}/{recipe}/understood")
async def what_was_understood(visit: Visits, merchant: str, recipe: str) -> Response:
    """A part of the page: what an adapter would learn from."""
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    found = await visit.gateway.threads.run_long(merchant, lambda: understood(visit.home, place.merchant, place.recipe))
    return part_of(visit, "onboard_understood.html", merchant, recipe, found=found, splits=found.splits)


async def place_of(visit: Visit, merchant: str, recipe: str) -> Place | Response:
    """What a page is about; or where to go first, if nothing of the merchant is here.

    Raises:
        NoPage: if the key is another merchant's, or there is no such recipe.
    """
    visit.reads(merchant)
    if not is_slug(merchant):
        raise NoPage("this cannot be a merchant's name", next_step="choose another")
    found = recipe_called(recipe)
    there = await visit.gateway.threads.run_files(merchant, lambda: find_merchant(visit.home, merchant))
    if there is None:
        return visit.to("/console/onboard", merchant=merchant, recipe=recipe)
    files = await visit.gateway.threads.run_files(merchant, lambda: wanted_files(there, found))
    return Place(there, found, files, visit.grant.allows("publish", merchant))


def part_of(visit: Visit, template: str, merchant: str, recipe: str, **values: Any) -> Response:
    """A part of the page; where no script asks for it, as a page of its own."""
    alone = "hx-request" not in visit.request.headers
    page = "onboard_part.html" if alone else template
    return visit.page(page, part=template, merchant=merchant, recipe=recipe, **values)


async def _brought(visit: Visit, place: Place, id_: str, form: Mapping[str, str]) -> dict[str, Any]:
    """A file that was brought, and how it is read."""
    merchant, recipe = place.merchant.name, place.recipe

    def read() -> tuple[Upload, Brought]:
        upload = find_upload(visit.home, merchant, recipe.name, id_, visit.grant.key)
        found = read_upload(visit.home, upload, recipe, reading_of(form, None))
        if any(name.startswith("c.") for name in form):
            found = read_upload(visit.home, upload, recipe, reading_of(form, found.columns))
        return upload, found

    upload, found = await visit.gateway.threads.run_long(merchant, read)
    kinds = together(found.bad)
    state = {
        name: value
        for name in (*_STATE, *sorted(form))
        if name in _STATE or name.startswith(_NAMED)
        if (value := form.get(name, "")) != ""
    }
    return {
        "upload": upload,
        "brought": found,
        "state": state,
        "reading": reading_of(form, None),
        "shown": kinds[:_MOST_SHOWN],
        "kinds": len(kinds),
        "encodings": Encoding.__args__,  # type: ignore[attr-defined]
        "rating": rating_recipe() if found.stars else None,
        "field_of": {column: field for field, column in found.chosen.items()},
        "file": next(file for file in place.files if file.kind == upload.kind),
        "test": next((file for file in place.files if file.kind == "test" and file.rows), None),
    }
