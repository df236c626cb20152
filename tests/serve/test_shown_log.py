"""The log of what was shown, the log of requests, and feedback: what they hold, and what they do not."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from tests.serve.operated import SENTIMENT, operating, own_copy, publish_second

from shopfit.errors import ShopfitError
from shopfit.serve.shown_store import schema
from shopfit.serve.user_hashes import UserHashes
from shopfit.settings import Settings

pytestmark = pytest.mark.proof

SECRET = "nobody else may read this"
SHOPPER = "jane@example.com"


@pytest.fixture(scope="module")
def shown(filled: Settings, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two gateways logged: `plain`, and `texts` of one that was told to keep texts."""
    folder = tmp_path_factory.mktemp("shown")
    settings = own_copy(filled, folder / "home")
    with operating(settings, "--shown", str(folder / "plain"), name="plain") as one:
        publish_second(one.registry, tiny_encoder, folder / "second")
        assert one.classify(SECRET, user=SHOPPER).status_code == 200
        assert one.classify(SECRET, model="rival/sentiment", key="rival", user=SHOPPER).status_code == 200
        assert one.classify(["lovely crema", "arrived cracked"], model=f"{SENTIMENT}@2").status_code == 200
        one.gateway.ask("/v1/releases", {"model": f"{SENTIMENT}@2", "kind": "canary", "share": 0.25})
        for number in range(40):
            assert one.classify("lovely crema", user=str(number)).status_code == 200
        assert one.classify("lovely crema", model="acme/none").status_code == 404
    with operating(
        settings, "--shown", f"file://{folder / 'texts'}", "--shown-texts", "--log-texts", name="texts"
    ) as one:
        assert one.classify(SECRET, model=f"{SENTIMENT}@1").status_code == 200
        one.gateway.ask(
            "/v1/rerank", {"model": "acme/products", "query": "keep warm", "documents": ["a tent", "a bag"]}
        )
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    assert {field.name for field in table.schema} == {field.name for field in schema()} | {"merchant", "day"}
    found: list[dict[str, Any]] = table.sort_by("at").to_pylist()
    return found


def test_a_row_says_what_was_shown_by_which_version(shown: Path) -> None:
    found = rows(shown / "plain")
    assert len(found) == 2 + 2 + 40
    first, other = found[0], found[1]
    assert (first["merchant"], other["merchant"]) == ("acme", "rival")
    assert (first["version"], first["recipe"], first["kind"]) == (f"{SENTIMENT}@1", "sentiment", "choose")
    assert (first["release"], first["propensity"]) == ("production", 1.0)
    assert first["item"] in {"negative", "positive"}
    assert 0.5 <= first["score"] <= 1
    assert len(first["digest"]) == 64
    assert first["day"] in (first["at"].date().isoformat(), first["at"].date())
    named = [row for row in found if row["release"] == "named"]
    assert [(row["version"], row["question"], row["place"]) for row in named] == [
        (f"{SENTIMENT}@2", 0, 0), (f"{SENTIMENT}@2", 1, 0),
    ]  # fmt: skip
    assert named[0]["answer"] == named[1]["answer"] != first["answer"]


def test_a_canary_leaves_its_propensity(shown: Path) -> None:
    found = rows(shown / "plain")[-40:]
    assert {(row["release"], row["version"][-1], row["propensity"]) for row in found} == {
        ("canary", "2", 0.25), ("production", "1", 0.75),
    }  # fmt: skip


def test_users_are_pseudonyms_and_texts_stay_out(shown: Path) -> None:
    found = rows(shown / "plain")
    assert found[0]["user"] != found[1]["user"]  # the same shopper of two merchants
    assert len(found[0]["user"]) == 32
    assert found[2]["user"] is None
    assert len({row["user"] for row in found[-40:]}) == 40
    assert {row["prompt"] for row in found} == {row["text"] for row in found} == {None}
    for file in (shown / "plain").rglob("*.parquet"):
        content = file.read_bytes()
        assert SECRET.encode() not in content
        assert SHOPPER.encode() not in content
    log = (shown / "home" / "plain.log").read_text()
    assert SECRET not in log
    assert SHOPPER not in log
    assert "lovely" not in log


def test_texts_are_kept_when_asked(shown: Path) -> None:
    found = [row for row in rows(shown / "texts") if row["kind"] == "choose"]
    assert [json.loads(row["prompt"]) for row in found] == [{"text": SECRET}]
    lines = [json.loads(line) for line in (shown / "home" / "texts.log").read_text().splitlines()]
    assert any(SECRET in line.get("texts", "") for line in lines)


def test_every_place_of_a_ranking_is_a_row(shown: Path) -> None:
    found = [row for row in rows(shown / "texts") if row["kind"] == "rank"]
    assert [row["place"] for row in found] == [0, 1]
    assert {row["item"] for row in found} == {"0", "1"}
    assert found[0]["score"] >= found[1]["score"]
    assert found[0]["share"] + found[1]["share"] == pytest.approx(1)


def test_a_log_line_a_request(shown: Path) -> None:
    lines = [json.loads(line) for line in (shown / "home" / "plain.log").read_text().splitlines()]
    requests = [line for line in lines if line["message"] == "request" and line["endpoint"] == "POST /v1/classify"]
    assert len(requests) == 3 + 40 + 1
    first = requests[0]
    assert (first["status"], first["merchant"], first["version"]) == (200, "acme", f"{SENTIMENT}@1")
    assert first["answer"] == rows(shown / "plain")[0]["answer"]
    assert first["tokens_read"] > 0
    assert first["milliseconds"] > 0
    assert len(first["key"]) == 12
    assert (requests[-1]["status"], "version" in requests[-1]) == (404, False)
    assert not any(line.get("endpoint") in ("GET /ready", "GET /health") and line["status"] < 400 for line in requests)


def test_a_merchant_is_erased_from_the_log(shown: Path, tmp_path: Path) -> None:
    def erase(merchant: str) -> "subprocess.CompletedProcess[str]":
        command = ["shopfit", "shown", "erase", merchant, "--log", str(shown / "plain"), "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert json.loads(erase("rival").stdout) == {"merchant": "rival", "files": 1}
    assert {row["merchant"] for row in rows(shown / "plain")} == {"acme"}
    assert json.loads(erase("rival").stdout) == {"merchant": "rival", "files": 0}
    assert erase("../acme").returncode == 2
    assert {row["merchant"] for row in rows(shown / "plain")} == {"acme"}


def test_a_log_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file" / "below"), "nosuch://bucket"):
        command = ["shopfit", "serve", "--port", "0", "--shown", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "the log of what was shown cannot be at" in done.stderr


def test_user_hashes_are_keyed(tmp_path: Path) -> None:
    one, two = UserHashes(tmp_path), UserHashes(tmp_path)
    assert one.of("acme", SHOPPER) == two.of("acme", SHOPPER)
    assert one.of("acme", SHOPPER) != one.of("rival", SHOPPER)
    assert one.of("acme", "") is None
    assert UserHashes(tmp_path, "another key, long enough").of("acme", SHOPPER) != one.of("acme", SHOPPER)
    assert (tmp_path / "user-hash.key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.glob("user*")] == ["user-hash.key"]
    with pytest.raises(ShopfitError, match="SHOPFIT_USER_KEY has 5 bytes"):
        UserHashes(tmp_path, "short")
