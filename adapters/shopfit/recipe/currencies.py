"""Currencies as they are written beside prices."""

import unicodedata

_CODES_TEXT = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR
IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR
MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD
SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF
XPF YER ZAR ZMW ZWG
"""  # ISO 4217
_ONE_TEXT = """
€ EUR  euro EUR  euros EUR  £ GBP  ₹ INR  ₩ KRW  ₽ RUB  ₺ TRY  ₴ UAH  ₪ ILS  ₫ VND  ฿ THB  ₱ PHP  ₦ NGN  ₸ KZT  ₾ GEL
₼ AZN  ₡ CRC  ₲ PYG  ₵ GHS  ៛ KHR  us$ USD  a$ AUD  au$ AUD  c$ CAD  ca$ CAD  nz$ NZD  hk$ HKD  s$ SGD  nt$ TWD  r$ BRL
mx$ MXN  cn¥ CNY  jp¥ JPY  rmb CNY  元 CNY  円 JPY  원 KRW  fr CHF  sfr CHF  zł PLN  zl PLN  kč CZK  ft HUF  лв BGN
lei RON  грн UAH  tl TRY  rm MYR  rp IDR  r ZAR  sr SAR  qr QAR  kd KWD  dhs AED  l.e EGP  \u20c1 SAR
ر.س SAR  د.إ AED  د.ك KWD  د.ب BHD  ر.ق QAR  ر.ع OMR  ر.ي YER  د.ا JOD  د.أ JOD  د.ع IQD  د.ل LYD  د.ت TND  د.ج DZD
د.م MAD  ج.م EGP  ج.س SDG  ل.ل LBP  ل.س SYP  شيكل ILS
"""  # noqa: RUF001 - Arabic's
_SEVERAL_TEXT = {
    "$": "ARS AUD BBD BMD BND BSD BZD CAD CLP COP DOP FJD GYD HKD JMD KYD LRD MXN NAD NZD SGD TTD TWD USD UYU XCD",
    "¥": "JPY CNY",
    "kr": "SEK NOK DKK ISK",
    "rs": "INR PKR LKR NPR MUR",
    "ريال": "SAR QAR OMR YER IRR",
    "درهم": "AED MAD",
    "دينار": "KWD BHD JOD IQD LYD TND DZD",
    "جنيه": "EGP SDG",
}

_PERSIAN = {0x6CC: "\u064a", 0x6A9: "\u0643"}  # letters that Arabic writes another way, as in the sign of the rial

_CODES = frozenset(_CODES_TEXT.split())
_ONE = dict(zip(_ONE_TEXT.split()[::2], _ONE_TEXT.split()[1::2], strict=True))
_SEVERAL = {sign: frozenset(codes.split()) for sign, codes in _SEVERAL_TEXT.items()}


def currency_of(text: str) -> str | None:
    """A currency as written -> its ISO 4217 code, or the sign itself where several share it; None if it is neither."""
    name = unicodedata.normalize("NFKC", text).translate(_PERSIAN).strip().removesuffix(".").strip().casefold()
    if name.upper() in _CODES:
        return name.upper()
    return _ONE.get(name) or (name if name in _SEVERAL else None)


def is_code(text: str) -> bool:
    """Whether a text is an ISO 4217 code, in any case of letters."""
    return text.upper() in _CODES


def common(one: str, other: str) -> str | None:
    """The more exact of two currencies that may be the same, such as `$` and `CAD`; None if they are two."""
    for sign, code in ((one, other), (other, one)):
        if sign == code or code in _SEVERAL.get(sign, ()):
            return code
    return None
