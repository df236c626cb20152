"""`make bench`: the numbers of the main job."""

from shopfit.libraries import quiet
from tests.bench import startup, tuning
from tests.bench.results import publish

quiet()
publish("bench", [*startup.measure(), *tuning.measure()])
