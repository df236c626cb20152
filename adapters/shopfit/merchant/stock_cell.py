"""Whether something can be ordered, as shops write it."""

import re
from typing import Any

from shopfit.merchant.amounts import readings
from shopfit.merchant.values import squeezed

ALLOWED = (
    "true, false, yes, no, 1, 0, a number in stock, in stock, out of stock, backorder, preorder; or that in Chinese or "
    "German"
)

_THERE_TEXT = """
true yes y t on instock available limitedavailability lowstock instoreonly onlineonly preorder presale madetoorder
backorder backorders backordered onbackorder availableonbackorder
是 有 有货 现货 在售 可售 有库存 库存充足 预售 预订 有貨 現貨 在售中 有庫存 預售 預訂
ja wahr verfügbar lieferbar auflager vorrätig sofortverfügbar sofortlieferbar vorbestellbar nachlieferbar
"""  # in the languages of `column_names`
_GONE_TEXT = """
false no n f off outofstock nostock notinstock notavailable unavailable soldout discontinued none
否 无 没有 缺货 无货 没货 断货 售罄 售完 卖完 停售 下架 已下架 无库存 暂时缺货 暂无库存 缺貨 無貨 沒貨 售完 無庫存
nein falsch ausverkauft vergriffen nichtverfügbar nichtlieferbar nichtauflager nichtvorrätig nichtmehrlieferbar
nichtmehrverfügbar derzeitnichtverfügbar
"""

_ADDRESS = re.compile(r"(https?://)?(www\.)?schema\.org/(?=[a-z]+/?$)", re.IGNORECASE)
_THERE, _GONE = frozenset(_THERE_TEXT.split()), frozenset(_GONE_TEXT.split())


def as_stock(value: Any) -> bool | None:
    """A stock cell as whether the item may be recommended; None if it says something else.

    What is on backorder or preorder can be ordered, so it is in stock. Schema.org's addresses are read too.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return None if value != value else value > 0
    if not isinstance(value, str):
        return None
    word = squeezed(_ADDRESS.sub("", value.strip()))
    if word in _THERE:
        return True
    if word in _GONE:
        return False
    found = [amount for amount in readings(value).values() if amount.currency is None]
    return found[0].value > 0 if found else None
