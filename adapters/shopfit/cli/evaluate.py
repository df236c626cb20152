"""`shopfit evaluate`: measure a registered adapter again."""

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.terminal import as_json, console, merchant_of, only_prints, print_json
from shopfit.libraries import quiet


@click.command(short_help="Measure a registered adapter again, beside base, priors and baselines.")
@click.argument("reference", type=TEXT)
@click.option(
    "--data",
    type=PLACE,
    metavar="FOLDER",
    help="The merchant's folder; by default the sample merchant of that name.",
)
@as_json
@only_prints
def command(reference: str, data: str | None, as_json: bool) -> None:
    """Put the test set in the merchant's folder to the adapter that REFERENCE names. Changes nothing."""
    from shopfit.registry import Reference

    merchant = merchant_of(Reference.parse(reference).merchant, data)
    quiet()
    from shopfit.evaluation import show
    from shopfit.reports import measure_again
    from shopfit.settings import Settings

    report = measure_again(reference, merchant, settings=Settings.from_environment())
    if as_json:
        print_json(report)
    else:
        show(report, console())
