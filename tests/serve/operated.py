"""A gateway and its registry for the tests of one file, which may change both."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.serve.gateways import ServedGateway, serving
from tests.serve.shops import bundle_of

from shopfit.base.load import load_base
from shopfit.registry import Registry
from shopfit.registry.grant import Scope
from shopfit.settings import Settings, sqlite_url

SCOPES: tuple[Scope, ...] = ("infer", "feedback", "promote")
SENTIMENT = "acme/sentiment"


@dataclass(frozen=True)
class Operated:
    """What a test of operations uses.

    Args:
        gateway: that runs.
        registry: its own.
    """

    gateway: ServedGateway
    registry: Registry

    def classify(self, text: str = "lovely crema", *, model: str = SENTIMENT, key: str = "acme", **more: Any) -> Any:
        """The response to one question."""
        return self.gateway.ask("/v1/classify", {"model": model, "input": text, **more}, key=key)

    def engines(self) -> dict[str, psutil.Process]:
        """The engine processes that the gateway told of, by the name of their base: `tiny` (writes) and `encoder`."""
        told = re.findall(r"the engine of (\S+) is ready: process (\d+)", self.gateway.log.read_text())
        return {
            Path(base).parent.name.rstrip("0123456789"): psutil.Process(int(number))
            for base, number in dict(told).items()
        }

    def version(self, **more: Any) -> str:
        """Name of the version that answers one question."""
        answer = self.classify(**more)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["x-shopfit-version"])

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/metrics`, by name and labels."""
        text = self.gateway.ask("/metrics", key="platform").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have some labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.metrics().items() if found == name and wanted <= has)


def own_copy(filled: Settings, home: Path) -> Settings:
    """A copy of the registry that tests share, without what its gateways have cached."""
    shutil.copytree(filled.home, home, ignore=shutil.ignore_patterns("cache"))
    return settings_in(home)


def settings_in(home: Path) -> Settings:
    """The settings of a registry that lies in a folder, whole."""
    return Settings(home, sqlite_url(home / "registry.db"), str(home / "blobs"))


@contextmanager
def halted(process: psutil.Process) -> Iterator[None]:
    """The process stands still, so that what waits for it surely waits."""
    process.suspend()
    try:
        yield
    finally:
        if process.is_running():
            process.resume()


@contextmanager
def operating(settings: Settings, *options: str, name: str = "gateway", ready: bool = True) -> Iterator[Operated]:
    """Run a gateway on a registry, with keys of all that tests do; `ready` as for `serving`."""
    with Registry.open(settings) as registry:
        keys = {who: registry.create_key(who, SCOPES, actor="tests").token for who in ("acme", "rival")}
        keys["asks"] = registry.create_key("acme", ["infer"], actor="tests").token
        keys["platform"] = registry.create_key(None, ["admin"], actor="tests").token
        with serving(settings, settings.home / f"{name}.log", keys, *options, ready=ready) as served:
            yield Operated(served, registry)


def publish_second(registry: Registry, encoder: Path, folder: Path, *, refused: str | None = None) -> str:
    """Publish another version of the merchant's adapter, which is not in production; its name."""
    bundle = bundle_of(folder, load_base(str(encoder), folder.parent), "acme", "sentiment", seed=7)
    return registry.publish(bundle, refused=refused, promote=False, actor="tests").name
