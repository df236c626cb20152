"""What merchants call the columns that recipes and catalogs read: in English, Chinese and German."""

from collections.abc import Mapping

from shopfit.merchant.values import squeezed

_EXAMPLES = {
    "text": "text review reviews reviewtext reviewbody reviewcontent comment comments content body message "
    "feedback sentence passage utterance customermessage question opinion 评论 评价 评论内容 评价内容 内容 文本 "
    "正文 留言 消息 反馈 bewertungstext rezension rezensionstext kommentar nachricht inhalt kundenmeinung "
    "meinung frage",
    "label": "label labels class sentiment polarity intent topic category tag target level answer 标签 情感 "
    "情感倾向 类别 分类 意图 倾向 等级 klasse kategorie stimmung absicht einstufung etikett thema",
    "query": "query search searchterm searchquery searchtext keyword keywords question q 查询 搜索 搜索词 "
    "关键词 检索词 suche suchbegriff suchanfrage suchwort anfrage",
    "relevant": "relevant clicked purchased bought ordered clickedproduct purchasedproduct productids productid "
    "product products itemids itemid item items sku adid articleid 相关 相关商品 点击 点击商品 购买 商品 商品id "
    "商品编号 gekauft geklickt treffer artikel artikelnummer produkt",
    "history": "history viewed recentlyviewed browsed previouslyviewed read 历史 浏览历史 浏览记录 已看 verlauf "
    "angesehen gelesen",
    "liked": "liked likes likeditems 喜欢 喜欢的商品 gefällt",
    "disliked": "disliked dislikes dislikeditems 不喜欢 不喜欢的商品 gefälltnicht",
    "item": "item itemid product productid sku article 商品 商品id 商品编号 产品 artikel artikelnummer produkt",
    "user": "user userid customer customerid shopper shopperid account 用户 用户id 顾客 客户 kunde kundennummer nutzer",
    "score": "score stars star rating ratings rate points grade 评分 星级 分数 打分 sterne punkte note bewertung",
    "input": "input trail events activity text 输入 行为 轨迹 eingabe",
    "output": "output profile answer response result 输出 画像 答案 结果 ausgabe profil antwort",
    "candidates": "candidates shown impressions options 候选 展示 kandidaten gezeigt",
    "group": "group session sessionid 分组 会话 gruppe sitzung",
    "at": "at date time datetime timestamp createdat created day 时间 日期 创建时间 datum zeit zeitpunkt",
    "weight": "weight 权重 gewicht",
    "id": "id rowid reviewid 编号 nummer",
}
_CATALOG = {
    "id": "id sku productid itemid articleid articlenumber adid code 编号 商品编号 商品id 货号 artikelnummer nummer",
    "title": "title name productname producttitle itemname headline 标题 名称 商品名称 品名 商品标题 titel "
    "bezeichnung artikelname",
    "description": "description details text body summary 描述 商品描述 简介 详情 beschreibung produktbeschreibung",
    "brand": "brand vendor manufacturer maker 品牌 marke hersteller",
    "category": "category categories type producttype department 分类 类目 类别 品类 kategorie warengruppe",
    "price": "price unitprice saleprice 价格 售价 单价 preis verkaufspreis",
    "currency": "currency 币种 货币 währung",
    "in_stock": "instock stock availability available quantity inventory 库存 有货 lager bestand lagerbestand "
    "verfügbar",
    "group": "group parent parentid productgroup 分组 gruppe",
    "variant": "variant option size colour color 规格 款式 variante",
}


def _squeezed(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {ours: tuple(dict.fromkeys([squeezed(ours), *names.split()])) for ours, names in table.items()}


OF_EXAMPLES: Mapping[str, tuple[str, ...]] = _squeezed(_EXAMPLES)
"""By the name of a field of an example: what else its column is called, the likeliest first, as `squeezed` gives it."""

OF_CATALOGS: Mapping[str, tuple[str, ...]] = _squeezed(_CATALOG)
"""The same of an item's fields."""

KNOWN = frozenset(name for table in (OF_EXAMPLES, OF_CATALOGS) for names in table.values() for name in names)
"""All of them."""
