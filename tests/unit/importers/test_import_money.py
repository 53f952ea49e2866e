import pytest

from fivenines.importers.money import CURRENCY_SCALES, minor_units, parse_minor, show_minor


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("0", 2, 0),
        ("700.00", 2, 70_000),
        ("-17.3", 2, -1_730),
        ("+5", 2, 500),
        ("12.", 2, 1_200),
        ("1.5000", 2, 150),
        ("10000000", 0, 10_000_000),
        ("79255.00", 0, 79_255),
        ("0.001", 3, 1),
        ("123456789012345678901234567890.12", 2, 12345678901234567890123456789012),
    ],
)
def test_a_decimal_number_is_read_to_the_last_unit(text: str, scale: int, value: int) -> None:
    assert minor_units(text, scale) == value
    if scale == 2:
        assert parse_minor(text) == value


@pytest.mark.parametrize(
    "text", ["", ".", "-", "1,50", "1e3", "NaN", "inf", " 1", "1.2.3", "٣", "0x10", "1_000", "1" * 40]
)
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal number"):
        parse_minor(text)


@pytest.mark.parametrize(("text", "scale"), [("1.005", 2), ("0.5", 0), ("1.0001", 3)])
def test_more_decimals_than_the_currency_has_are_refused(text: str, scale: int) -> None:
    with pytest.raises(ValueError, match=f"more than {scale} decimals"):
        minor_units(text, scale)


def test_what_is_shown_can_be_read_again() -> None:
    for value in (0, 5, -5, 123, -12_345, 10**20):
        for scale in (0, 2, 3):
            assert minor_units(show_minor(value, scale), scale) == value
    assert show_minor(20, sign=True) == "+0.20"


def test_currencies_have_the_scales_of_iso_4217() -> None:
    samples = {"EUR": 2, "CHF": 2, "JPY": 0, "KWD": 3, "CLF": 4, "ISK": 0, "TND": 3, "CZK": 2, "LTL": 2}
    assert {code: CURRENCY_SCALES[code] for code in samples} == samples
    assert all(len(code) == 3 and code.isupper() for code in CURRENCY_SCALES)
    assert len(CURRENCY_SCALES) > 160
    assert "XTS" not in CURRENCY_SCALES
