"""Amounts in text to smallest units, without a float in sight, and the currencies of ISO 4217 with their scales."""

import re

__all__ = ["CURRENCY_SCALES", "minor_units", "parse_minor", "show_minor"]

_NUMBER = re.compile(r"([+-]?)([0-9]{1,36})(?:\.([0-9]{0,36}))?", re.ASCII)

_SCALE_0 = "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_SCALE_2 = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE "
    "CHF CHW CNY COP COU CRC CUC CUP CVE CYP CZK DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ "
    "GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL LTL LVL MAD MDL MGA "
    "MKD MMK MNT MOP MRO MRU MTL MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR "
    "ROL RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SIT SKK SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TOP "
    "TRY TTD TWD TZS UAH USD USN UYU UZS VED VEF VES WST XCD XCG YER ZAR ZMK ZMW ZWG ZWL"
)
_SCALE_3 = "BHD IQD JOD KWD LYD OMR TND"
_SCALE_4 = "CLF UYW"

CURRENCY_SCALES: dict[str, int] = {
    code: scale
    for scale, codes in ((0, _SCALE_0), (2, _SCALE_2), (3, _SCALE_3), (4, _SCALE_4))
    for code in codes.split()
}
"""The number of decimals of each currency of ISO 4217, those withdrawn since 2004 included: old files name them."""


def minor_units(amount: str, scale: int) -> int:
    """Read a decimal number as smallest units.

    Raises:
        ValueError: it is no decimal number, or has more decimals (other than zeros) than the scale; the sentence says
            which.
    """
    match = _NUMBER.fullmatch(amount)
    if match is None:
        raise ValueError(f"{amount[:40]!r} is not a decimal number")
    sign, whole, decimals = match[1], match[2], match[3] or ""
    if decimals[scale:].strip("0"):
        raise ValueError(f"{amount!r} has more than {scale} decimals")
    value = int(whole + decimals[:scale].ljust(scale, "0"))
    return -value if sign == "-" else value


def parse_minor(amount: str) -> int:
    """`minor_units` at a scale of 2, quick for the usual form of two decimals."""
    digits = amount[:-3] + amount[-2:]
    if amount[-3:-2] == "." and digits.isascii() and digits.isdigit() and len(digits) <= 36:
        return int(digits)
    return minor_units(amount, 2)


def show_minor(value: int, scale: int = 2, *, sign: bool = False) -> str:
    """Write smallest units as a decimal number, for people."""
    digits = f"{abs(value):0{scale + 1}d}"
    shown = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return ("-" if value < 0 else "+" if sign else "") + shown
