"""Onboarding: files brought, columns corrected, bad rows told, rows taken, runs started and followed."""

import csv
import fcntl
import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect
from tests.conftest import REAL_BASES
from tests.serve.console.conftest import Visitor
from tests.serve.operated import Operated

from shopfit.merchant.kept_folder import kept_merchant, write_rows
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import sample_folder
from shopfit.runs import all_runs, create_run
from shopfit.runs.queue import lane_lock, waiting
from shopfit.serve.console.onboarding import methods_of
from shopfit.settings import uploads

START = "/console/onboard"
SENTIMENT = "review-sentiment"
GUARD = 120_000  # milliseconds, against hanging
OPINIONS = """Notes;Opinion;Mood
first order;"Lovely tea, and quick";positive
;Arrived torn and stale;Negative
second;So so;meh
third;;positive
fourth;The best oolong I know;positive
fifth;Dust in a bag, never again;negative
"""
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
ARABIC = "شاي ممتاز، وصل بسرعة"


@pytest.fixture(autouse=True)
def patient(visitor: Visitor) -> None:
    """However slow this machine is."""
    visitor.page.set_default_timeout(GUARD)


@pytest.fixture(scope="module")
def publisher(operated: Operated) -> str:
    """A key of acme's that may bring data."""
    return operated.registry.create_key("acme", ["infer", "publish"], actor="tests").token


class Client:
    """A session without a browser."""

    def __init__(self, operated: Operated, key: str) -> None:
        self._url = operated.gateway.url
        self._headers = {"cookie": f"shopfit_console={key}", "origin": self._url}

    def speaks(self, language: str) -> None:
        """The browser's language from now on."""
        self._headers["accept-language"] = language

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self._url}{path}", headers=self._headers, timeout=None)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        token = re.search(r'name="csrf" content="([0-9a-f]+)"', self.get(START).text)
        assert token is not None
        return httpx2.post(
            f"{self._url}{path}", headers=self._headers | {"x-csrf-token": token[1]}, timeout=None, **more
        )

    def bring(self, place: str, content: bytes, kind: str = "examples") -> str:
        """Bring a file; the page that shows it."""
        answer = self.post(f"{place}/upload", data={"kind": kind}, files={"file": ("rows.csv", content)})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])


@pytest.fixture
def home(operated: Operated) -> Path:
    return operated.gateway.settings.home


@pytest.fixture
def shop(home: Path) -> str:
    """A merchant with rows that can be learned from; its page."""
    merchant = kept_merchant(home, "corner-shop", description=HOSTILE)
    rows = [
        {"text": f"{word} tea {number}", "label": label}
        for number in range(8)
        for word, label in (("lovely", "positive"), ("dreadful", "negative"))
    ]
    write_rows(merchant, "reviews.jsonl", rows)
    return f"{START}/corner-shop/{SENTIMENT}"


def test_a_file_of_a_new_merchant_is_corrected_and_its_good_rows_are_taken(platform: Visitor, home: Path) -> None:
    page = platform.page
    platform.open(START)
    platform.check_accessible()
    platform.shoot("onboard")
    page.get_by_label("Short name").fill("tea-garden")
    page.get_by_label("What the shop sells").fill("Loose tea")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("tea-garden")
    expect(page.get_by_text("Needed", exact=True)).to_be_visible()
    platform.check_accessible()
    platform.shoot("onboard-empty")
    page.get_by_label("Drop a file here").set_input_files(
        {"name": "opinions.csv", "mimeType": "text/csv", "buffer": OPINIONS.encode()}
    )
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("6 read: 4 good, 2 that cannot be used")).to_be_visible()
    expect(page.get_by_label("Text", exact=False).first).to_have_value("1")
    platform.check_accessible()
    platform.shoot("onboard-columns")
    problems = page.get_by_role("region", name="2 problems").get_by_role("row")
    for said in ("4", "'meh' is none of the labels", "negative, positive"):
        expect(problems.nth(1)).to_contain_text(said)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download all").click()
    table = list(csv.reader(io.StringIO(downloading.value.path().read_text(encoding="utf-8-sig"))))
    assert table == [
        ["line", "field", "reason", "allowed", "Notes", "Opinion", "Mood"],
        ["4", "label (Mood)", "'meh' is none of the labels", "negative, positive", "second", "So so", "meh"],
        ["5", "text (Opinion)", "the text is empty", "", "third", "", "positive"],
    ]

    for column in ("Notes", "Opinion"):
        page.get_by_label("Text", exact=False).first.select_option(column)
        page.get_by_role("button", name="Read again").click()
        expect(page.get_by_role("columnheader", name=column)).to_contain_text("Text")
        page.reload()
        expect(page.get_by_role("columnheader", name=column)).to_contain_text("Text")
    page.get_by_role("button", name="Take 4 rows").click()  # not without saying that others are left out
    assert not (home / "merchants" / "tea-garden" / "reviews.jsonl").exists()
    page.get_by_label("Leave out the 2 rows").check()
    page.get_by_role("button", name="Take 4 rows").click()
    expect(page.get_by_text("4 rows were taken")).to_be_visible()
    lines = (home / "merchants" / "tea-garden" / "reviews.jsonl").read_text().splitlines()
    assert lines[1] == '{"text": "Arrived torn and stale", "label": "negative"}'
    assert not list(uploads(home, "tea-garden").iterdir())


def test_cells_that_are_scripts_or_run_from_right_to_left_or_are_endless_are_texts(
    platform: Visitor, shop: str
) -> None:
    page = platform.page
    platform.open(shop)
    rows = [
        f"text,label,{HOSTILE}",
        f"{HOSTILE},positive,1",
        f"{ARABIC},negative,2",
        f"{'endless ' * 1300},{HOSTILE},3",
    ]
    page.get_by_label("Or paste rows").fill("\n".join(rows))
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_role("cell", name=HOSTILE).first).to_be_visible()
    expect(page.get_by_text(ARABIC).first).to_have_attribute("dir", "rtl")
    assert "taken" not in page.title()
    assert page.locator("main img").count() == 0
    platform.check_accessible()
    platform.shoot("onboard-hostile")
    page.get_by_label("Replace all 16").check()
    page.get_by_label("Leave out the row").check()
    page.get_by_role("button", name="Take 2 rows").click()
    expect(page.get_by_text("no test set can be held out")).to_be_visible()


def test_everything_is_done_by_keyboard_alone(platform: Visitor, home: Path) -> None:
    page = platform.page
    platform.open(START)

    def reach(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()") == name:
                return
        pytest.fail(f"the Tab key never comes to {name}")

    reach("name")
    page.keyboard.type("keys-only")
    reach("Go on")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("keys-only")
    reach("pasted")
    for text, label in (("splendid", "positive"), ("stale", "negative"), ("lovely", "positive"), ("poor", "negative")):
        page.keyboard.insert_text(f"{text} tea\t{label}\n")
    reach("Read it")
    page.keyboard.press("Enter")
    expect(page.get_by_text("4 read: 4 good")).to_be_visible()
    reach("Take 4 rows")
    page.keyboard.press("Enter")
    expect(page.get_by_text("4 rows were taken")).to_be_visible()
    assert len((home / "merchants" / "keys-only" / "reviews.jsonl").read_text().splitlines()) == 4


def test_labels_of_a_shops_own_are_told_which_of_the_recipe_they_mean(platform: Visitor, home: Path) -> None:
    page = platform.page
    kept_merchant(home, "own-words")
    platform.open(f"{START}/own-words/{SENTIMENT}")
    page.get_by_label("Or paste rows").fill(
        "评论,标签\n茶很香,好评\n包装破了,差评\n物流很快,好评\n一般般,中评\n凑合,中评\n还行,meh\n"
    )
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("6 read: 3 good, 3 that cannot be used")).to_be_visible()
    expect(page.get_by_label("好评 2 rows")).to_have_value("label:positive")
    expect(page.get_by_label("差评 1 row")).to_have_value("label:negative")
    expect(page.get_by_label("中评 2 rows")).to_have_value("none")
    platform.check_accessible()
    platform.shoot("onboard-meanings")
    page.get_by_label("中评 2 rows").select_option("leave these rows out")
    expect(page.get_by_text("Something above was changed")).to_be_visible()
    expect(page.get_by_role("button", name="Take 3 rows")).to_be_hidden()
    page.get_by_label("meh 1 row").select_option("negative")
    page.get_by_role("button", name="Read again").click()
    expect(page.get_by_text("6 read: 4 good, 0 that cannot be used. 2 are left out, as you said.")).to_be_visible()
    page.get_by_role("button", name="Take 4 rows").click()
    expect(page.get_by_text("4 rows were taken")).to_be_visible()
    lines = (home / "merchants" / "own-words" / "reviews.jsonl").read_text().splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    assert labels == ["positive", "negative", "positive", "negative"]


def test_stars_are_told_the_recipe_that_takes_ratings(operated: Operated, shop: str) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    rows = "".join(f"cup of tea {n},{1 + n % 5}\n" for n in range(10))
    seen = client.get(client.bring(shop, f"review,stars\n{rows}".encode())).text
    assert "8 good" in seen
    assert 'href="/console/onboard/corner-shop/review-stars"' in seen
    intents = client.get(client.bring(shop.replace(SENTIMENT, "support-intent"), b"text,label\na b,1\nc d,5\n")).text
    assert 'id="meanings"' not in intents


def test_a_new_merchant_whose_name_is_taken_is_told_so(platform: Visitor, home: Path, shop: str) -> None:
    page = platform.page
    platform.open(START)
    page.get_by_label("Short name").fill("corner-shop")
    page.get_by_label("What the shop sells").fill("Bicycles")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("There is a merchant corner-shop already.")).to_be_visible()
    expect(page.get_by_text("reviews.jsonl): 16 rows.")).to_be_visible()
    expect(page.get_by_role("link", name="Open corner-shop")).to_have_attribute("href", shop)
    assert "taken" not in page.title()
    platform.check_accessible()
    platform.shoot("onboard-name-taken")
    page.get_by_label("Short name").fill("bicycle-shop")
    expect(page.get_by_label("What the shop sells")).to_have_value("Bicycles")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("bicycle-shop")
    assert "Bicycles" in (home / "merchants" / "bicycle-shop" / "merchant.yaml").read_text()


def test_a_language_is_given_by_its_code(platform: Visitor, home: Path) -> None:
    page = platform.page
    platform.open(START)
    page.get_by_label("Short name").fill("wordy")
    page.get_by_label("Language", exact=True).fill("English")
    page.get_by_role("button", name="Go on").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("“English” is not the code of a language.")
    expect(alert).to_contain_text("zh (Chinese)")
    assert str(home) not in page.content()
    assert "tmp" not in alert.inner_text()
    assert not (home / "merchants" / "wordy").exists()
    page.get_by_label("Language", exact=True).fill("pt-BR")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("wordy")


def test_what_is_pasted_beyond_what_a_field_holds_is_told_in_the_readers_language(
    operated: Operated, shop: str
) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    form = {"kind": (None, "examples"), "pasted": (None, "a cup of tea,positive\n" * 60_000)}
    for language, said in (("en", "has more than 1 MB"), ("zh-CN", "有一项超过 1 MB")):
        client.speaks(language)
        answer = client.post(f"{shop}/upload", files=form)
        assert answer.status_code == 413
        assert said in answer.text
        assert "exceeded" not in answer.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\xff\xfe", "this is a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "this is a picture"),
        (b"%PDF-1.7\n", "this is a PDF"),
        (b"\x7fELF\2\1\1\0\0\xf0\x9f", "this is a binary file"),
    ],
)
def test_what_is_no_table_is_told_as_what_it_is(operated: Operated, shop: str, content: bytes, said: str) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    answer = client.post(f"{shop}/upload", data={"kind": "examples"}, files={"file": ("rows.csv", content)})
    assert answer.status_code == 422
    assert said in answer.text
    assert "JSON lines or Parquet" in answer.text


def test_a_table_of_bmi_or_in_utf_16_is_no_picture(operated: Operated, shop: str) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    for content in (b"BMI text,label\nfine tea,positive\n", "text,label\nfine tea,positive\n".encode("utf-16-le")):
        assert client.get(client.bring(shop, content)).status_code == 200


def test_rows_without_a_label_are_kept_to_be_labelled(platform: Visitor, home: Path) -> None:
    page = platform.page
    kept_merchant(home, "half-said")
    platform.open(f"{START}/half-said/{SENTIMENT}")
    said = "text,label\nlovely tea,positive\nstale tea,negative\nquick parcel,\nslow parcel,\n,\n"
    page.get_by_label("Or paste rows").fill(said)
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("4 read: 2 good, 0 that cannot be used. 2 have no label.")).to_be_visible()
    expect(page.get_by_label("Keep the 2 rows without a label")).to_be_checked()
    platform.check_accessible()
    page.get_by_role("button", name="Take 2 rows").click()
    expect(page.get_by_text("2 rows were taken. 2 rows wait for their label.")).to_be_visible()
    folder = home / "merchants" / "half-said"
    assert len((folder / "reviews.jsonl").read_text().splitlines()) == 2
    rows = [json.loads(line) for line in (folder / "reviews.unlabeled.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["quick parcel", "slow parcel"]
    page.get_by_role("link", name="Label them").click()
    expect(page.get_by_text("quick parcel").or_(page.get_by_text("slow parcel")).first).to_be_visible()


def test_a_file_without_labels_is_kept_to_be_labelled(platform: Visitor, home: Path) -> None:
    page = platform.page
    kept_merchant(home, "unsaid-yet")
    platform.open(f"{START}/unsaid-yet/{SENTIMENT}")
    page.get_by_label("Or paste rows").fill("review,order\nlovely tea,1701\nstale tea,1702\nquick parcel,1703\n")
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("No column is chosen for “Label”")).to_be_visible()
    platform.check_accessible()
    page.get_by_role("button", name="Keep the rows").click()
    assert not (home / "merchants" / "unsaid-yet" / "reviews.unlabeled.jsonl").exists(), "it asks first"
    page.get_by_label("Keep the 3 rows without a label").check()
    page.get_by_role("button", name="Keep the rows").click()
    expect(page.get_by_text("3 rows wait for their label.")).to_be_visible()
    page.get_by_role("link", name="Label them").click()
    expect(page.get_by_text("tea").or_(page.get_by_text("quick parcel")).first).to_be_visible()


def test_rows_without_a_label_may_be_left_out_or_be_all_there_is(operated: Operated, home: Path) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    folder = kept_merchant(home, "unsaid").folder
    place = f"{START}/unsaid/{SENTIMENT}"
    for content, form in (
        (b"text,label\nfine tea,positive\nno word,\n", {}),
        (b"text,label\nodd,\nbland,meh\n", {"keep_unlabeled": "true", "l.meh": "out"}),
    ):
        upload = client.bring(place, content).partition("=")[2]
        answer = client.post(f"{place}/take", data={"upload": upload, "how": "replace", **form})
        assert answer.status_code == 303, answer.text
    assert len((folder / "reviews.jsonl").read_text().splitlines()) == 1  # no row replaces those that are there
    assert "odd" in (folder / "reviews.unlabeled.jsonl").read_text()
    assert "no word" not in (folder / "reviews.unlabeled.jsonl").read_text()


def test_equal_problems_are_told_once_with_their_lines(operated: Operated, shop: str) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    rows = "".join(f"=cup {n},{'odd' if n % 2 else 'positive'}\n" for n in range(40))
    place = client.bring(shop, f"text,label\n{rows}".encode())
    seen = client.get(place).text
    assert "20 problems" in seen
    assert seen.count("&#39;odd&#39; is none of the labels") == 1
    assert "3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25" in seen
    assert "and 8 more" in seen
    table = list(csv.reader(io.StringIO(client.get(place.replace("?", "/bad.csv?")).text.removeprefix("\ufeff"))))
    assert len(table) == 21
    assert table[1][4:] == ["'=cup 1", "odd"]


def test_a_file_in_another_encoding_is_named_and_read_in_it(platform: Visitor, shop: str) -> None:
    page = platform.page
    text = "评论,标签\n" + "".join(
        f"这家的龙井茶很香，物流也快，第{n}次购买,positive\n茶叶碎了，味道很差{n},negative\n" for n in range(6)
    )
    platform.open(shop)
    page.get_by_label("Drop a file here").set_input_files(
        {"name": "评论.csv", "mimeType": "text/csv", "buffer": text.encode("gb18030")}
    )
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("it looks like gb18030")).to_be_visible()
    page.get_by_role("link", name="中文").click()
    expect(page.get_by_text("看起来是 gb18030")).to_be_visible()
    platform.check_accessible()
    page.get_by_role("button", name="按 gb18030 读取").click()
    expect(page.get_by_role("columnheader", name="评论")).to_contain_text("文本")
    platform.shoot("onboard-zh")
    page.get_by_role("button", name="导入 12 行").click()
    expect(page.get_by_text("已导入 12 行")).to_be_visible()


def test_a_file_that_may_be_in_several_encodings_is_read_in_none_by_one_click(operated: Operated, shop: str) -> None:
    mine = Client(operated, operated.gateway.keys["platform"])
    place = mine.bring(shop, "text,label\nşapka ığ,positive\n".encode("cp1254"))
    seen = mine.get(place).text
    assert "one of these: windows-1254, windows-1252" in seen
    assert "Read it as" not in seen
    assert "şapka ığ" in mine.get(f"{place}&encoding=windows-1254").text


def test_nobody_reads_what_another_key_brought_or_onboards_another_merchant(
    operated: Operated, publisher: str, home: Path, shop: str
) -> None:
    kept_merchant(home, "acme")
    mine, platform = Client(operated, publisher), Client(operated, operated.gateway.keys["platform"])
    brought = mine.bring(f"{START}/acme/{SENTIMENT}", OPINIONS.encode())
    assert mine.get(brought).status_code == 200
    folder = uploads(home, "acme") / brought.partition("=")[2]
    assert folder.stat().st_mode & 0o777 == 0o700
    others = operated.registry.create_key("rival", ["publish"], actor="tests").token
    for who, path in (
        (Client(operated, others), brought),
        (Client(operated, others), brought.replace("acme", "rival")),
        (platform, brought),
        (mine, brought.replace(SENTIMENT, "review-stars")),
        (mine, f"{START}/acme/{SENTIMENT}?upload=..%2F..%2Facme"),
        (mine, shop),
        (mine, f"{START}/acme/no-such"),
        (mine, f"{START}/corner-shop/{SENTIMENT}/live"),
    ):
        answer = who.get(path)
        assert answer.status_code in (303, 404), path
        assert "Opinion" not in answer.text
        assert "lovely" not in answer.text
    assert mine.post(START, data={"merchant": "", "name": "another", "recipe": SENTIMENT}).status_code == 403
    assert not (home / "merchants" / "another").exists()
    asks = Client(operated, operated.gateway.keys["asks"])
    assert asks.post(f"{START}/acme/{SENTIMENT}/upload", data={"pasted": "a,b"}).status_code == 403
    assert asks.post(f"{START}/acme/{SENTIMENT}/start").status_code == 403
    os.utime(folder, (0, 0))
    assert mine.get(brought).status_code == 404
    assert not folder.exists()


def test_files_may_be_large_but_not_endless(operated: Operated, publisher: str, home: Path) -> None:
    kept_merchant(home, "acme")
    mine, place = Client(operated, publisher), f"{START}/acme/{SENTIMENT}"
    large = "text,label\n" + "".join(f"{'a cup of tea ' * 40}{n},positive\nno {n},negative\n" for n in range(6000))
    assert "12,000 good" in mine.get(mine.bring(place, large.encode())).text
    endless = mine.post(f"{place}/upload", data={"kind": "examples"}, files={"file": ("a.csv", b"x" * (65 << 20))})
    assert endless.status_code == 413
    assert "<main" in endless.text
    asks = Client(operated, operated.gateway.keys["asks"])
    refused = asks.post(f"{place}/upload", files={"file": ("a.csv", b"x" * (2 << 20))})
    assert refused.status_code == 403


def test_a_catalog_comes_before_the_rows_that_name_its_items(operated: Operated, home: Path) -> None:
    client, place = Client(operated, operated.gateway.keys["platform"]), f"{START}/kiosk/product-recommendation"
    assert client.post(START, data={"name": "kiosk", "recipe": "product-recommendation"}).headers["location"] == place
    searches = b"search term,clicked\ngreen tea,t1\nblack tea,t1|t9\n"
    early = client.post(f"{place}/upload", data={"kind": "examples"}, files={"file": ("rows.csv", searches)})
    assert early.status_code == 422
    assert "has no catalog.jsonl yet" in early.text
    assert str(home) not in early.text
    taken = client.bring(place, b'SKU,Name,Preis\nt1,Sencha,"4,50"\nt2,Assam,"5,20"\n', "catalog")
    assert client.post(f"{place}/take", data={"upload": taken.partition("=")[2]}).status_code == 303
    rows = (home / "merchants" / "kiosk" / "catalog.jsonl").read_text()
    assert '"price": 4.5' in rows
    late = client.get(client.bring(place, searches)).text
    assert "is not in the catalog" in late
    assert str(home) not in late
    again = client.bring(place, b"id,title\nt2,Assam again\n", "catalog")
    clash = client.post(f"{place}/take", data={"upload": again.partition("=")[2], "how": "append"})
    assert "cannot stand beside" in clash.text
    assert (home / "merchants" / "kiosk" / "catalog.jsonl").read_text() == rows


@pytest.fixture
def still(home: Path) -> Iterator[None]:
    """No worker takes what is queued."""
    locks = []
    for lane in ("tuning", "asking"):
        path = lane_lock(home, lane)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        locks.append(file)
    yield
    for lane, file in zip(("tuning", "asking"), locks, strict=True):
        for entry in waiting(home, lane):  # type: ignore[arg-type]
            entry.entry.unlink()
        file.close()


def test_a_start_asks_for_settings_of_a_short_list_alone(
    platform: Visitor, operated: Operated, home: Path, shop: str, still: None
) -> None:
    client = Client(operated, operated.gateway.keys["platform"])
    for form in ({"epochs": "0"}, {"shots": "1e9"}, {"method": "base=/etc"}, {"epochs": "²"}):
        assert client.post(f"{shop}/start", data=form).status_code in (404, 422)
    client.post(f"{shop}/start", data={"base": "/etc", "epochs": "2", "method": "dora", "only_instant": "yes"})
    [run] = all_runs(home, "corner-shop")
    sets = ("--set", "adapter.method=lora", "--set", "adapter.dora=true", "--set", "tune.epochs=2", "--instant")
    assert run.asked.arguments == sets
    platform.open(shop)
    platform.page.get_by_role("button", name="Plan: cost and time").click()
    expect(platform.page.get_by_text("A few steps are being measured")).to_be_visible()
    [plan] = [one for one in all_runs(home, "corner-shop") if one.asked.job == "plan"]
    plan.tell("failed", message=f"{home}/merchants/corner-shop/reviews.jsonl has a problem", problems=[], next="")
    expect(platform.page.get_by_text("The cost cannot be known yet")).to_be_visible()
    assert str(home) not in platform.page.content()
    platform.page.get_by_role("button", name="Start").click()
    expect(platform.page.get_by_text("1 before it")).to_be_visible()


def test_what_is_asked_twice_is_done_once(
    platform: Visitor, operated: Operated, home: Path, shop: str, still: None
) -> None:
    client, merchant = Client(operated, operated.gateway.keys["platform"]), "twice-shop"
    place = f"{START}/{merchant}/{SENTIMENT}"
    kept_merchant(home, merchant)
    rows = (home / "merchants" / "corner-shop" / "reviews.jsonl").read_bytes()
    assert client.bring(place, OPINIONS.encode()) == client.bring(place, OPINIONS.encode())
    assert len(list(uploads(home, merchant).iterdir())) == 1
    (home / "merchants" / merchant / "reviews.jsonl").write_bytes(rows)
    platform.open(place)
    platform.page.get_by_role("button", name="Start").dblclick()
    expect(platform.page.locator("[aria-current=step]")).to_contain_text("Waits for its turn")
    client.post(f"{place}/start")
    [run] = all_runs(home, merchant)
    client.post(f"{place}/start", data={"epochs": "2"})
    assert len(all_runs(home, merchant)) == 2
    with run.held():
        run.tell("started")
        client.post(f"{place}/start")
        assert len(all_runs(home, merchant)) == 2
        future = time.time() + 60
        os.utime(home / "merchants" / merchant / "reviews.jsonl", (future, future))  # rows were brought meanwhile
        client.post(f"{place}/start")
        assert len(all_runs(home, merchant)) == 3
        run.tell("ended", refused=False)


def test_a_run_is_followed_step_by_step_and_a_reload_shows_the_same(
    platform: Visitor, home: Path, shop: str, still: None
) -> None:
    page = platform.page
    platform.open(shop)
    run = create_run(home, "adapter", "corner-shop", SENTIMENT, actor="tests")
    plan = create_run(home, "plan", "corner-shop", SENTIMENT, actor="tests")
    numbers = {"seconds": 84.0, "begin_seconds": 12.0, "train_seconds": 60.0, "parts_seconds": 4.0}
    numbers |= {"evaluate_seconds": 8.0, "peak_memory_mb": 903.2, "adapter_mb": 1.33, "examples": 12, "test": 4}
    (plan.folder / "result.json").write_text(str(numbers | {"steps": 8, "contradict": ""}).replace("'", '"'))
    plan.tell("ended", refused=False)
    platform.open(shop)
    expect(page.get_by_text("about 1 min 24 s")).to_be_visible()
    current = page.locator("[aria-current=step]")
    expect(current).to_contain_text("Waits for its turn")
    version = {"metric": "macro_f1", "value": 0.91, "low": 0.8, "high": 0.97, "rival": None, "reason": "because"}
    with run.held():
        run.tell("started")
        expect(current).to_contain_text("Reads the rows")
        run.tell("stage", what="base", detail="loaded")
        expect(current).to_contain_text("needs no training")
        first = {"name": f"corner-shop/{SENTIMENT}@1", "instant": True, "promoted": True, "candidate": False}
        run.tell("version", **version, **first)
        expect(page.get_by_role("heading", name="Try it")).to_be_visible()
        run.tell("begin", steps=8)
        run.tell("step", step=3, loss=0.7)
        expect(page.get_by_text("step 3 of 8")).to_be_visible()
        platform.check_accessible()
        platform.shoot("onboard-run")
        page.reload()
        expect(page.get_by_text("step 3 of 8")).to_be_visible()
        second = {"name": f"corner-shop/{SENTIMENT}@2", "instant": False, "promoted": False, "candidate": False}
        run.tell("version", **version, **second)
        run.tell("ended", refused=False, version=second["name"])
    expect(page.get_by_text("was refused. What answered before goes on")).to_be_visible()
    run_page = f"/console/runs/corner-shop/{run.id}"
    expect(page.get_by_role("link", name="All of the run")).to_have_attribute("href", run_page)
    platform.check_accessible()
    platform.shoot("onboard-done")


def test_an_erased_merchant_leaves_nothing_that_was_brought(operated: Operated, home: Path) -> None:
    client, place = Client(operated, operated.gateway.keys["platform"]), f"{START}/gone/{SENTIMENT}"
    client.post(START, data={"name": "gone", "recipe": SENTIMENT})
    client.bring(place, OPINIONS.encode())
    operated.registry.erase("gone", operated.gateway.settings, actor="tests")
    assert not uploads(home, "gone").exists()
    assert not (home / "merchants" / "gone").exists()


@pytest.mark.slow
def test_from_a_pasted_table_to_an_answer(platform: Visitor, operated: Operated, home: Path) -> None:
    """The real base: a new merchant has a version that answers while the trained one is made."""
    if not (home / "bases").exists():
        (home / "bases").symlink_to(REAL_BASES)
    page = platform.page
    platform.open(START)
    page.get_by_label("Short name").fill("slow-tea")
    page.get_by_role("radio", name="What customers write about").check()
    page.get_by_role("button", name="Go on").click()
    sample = sample_folder("crema")
    assert sample is not None
    kept = [json.loads(line) for line in (sample / "intents.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [f"{row['text']}\t{row['label']}" for row in kept]
    page.get_by_label("Or paste rows").fill("\n".join(rows))
    page.get_by_role("button", name="Read it").click()
    page.get_by_role("button", name=f"Take {len(rows)} rows").click()
    page.get_by_text("Settings").click()
    page.get_by_label("Passes over the rows").fill("1")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Try it")).to_be_visible(timeout=10 * GUARD)
    answer = operated.gateway.ask(
        "/v1/classify", {"model": "slow-tea/support-intent@1", "input": "where is my parcel?"}, key="platform"
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["label"] in {row["label"] for row in kept}
    expect(page.locator("[aria-current=step]")).to_have_count(0, timeout=10 * GUARD)
    expect(page.locator("#steps .notice")).to_contain_text("slow-tea/support-intent@")


@pytest.mark.parametrize(("quantization", "offered"), [("none", True), ("nf4", True), ("int8", False)])
def test_no_method_is_offered_that_does_not_work(quantization: str, offered: bool) -> None:
    folder = sample_folder("trailhead")
    assert folder is not None
    recipe = load_recipe(SENTIMENT, overrides=["base=smollm2-135m", f"quantization={quantization}"])
    methods = methods_of(Merchant.open(folder), recipe)
    assert methods[0] == "lora"
    assert ("dora" in methods) == offered
