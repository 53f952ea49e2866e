"""Make a believable bank in the format of the Berka books, for people who have no real ones at hand.

The days are lived one after another. Salaries and pensions come on pay-days (on the working day before, if that one is
free), standing orders go out on theirs, cards and cash machines are used more on Fridays and Saturdays and around noon
and the evening, the month ends with a statement fee and with interest on the average balance, and those who are allowed
to overdraw sometimes do, and pay penalty interest. The file states only dates, as Berka's does, but its rows are in the
order of the hours.

The running balances are kept by the plainest code there is, a dict of integers: they are the judge of an import, so
they share nothing with the ledger or with the importer. The same arguments make the same bytes.
"""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TextIO

__all__ = ["CUSTOMERS", "DAYS", "SEED", "START", "GeneratedBank", "generate_bank"]

CUSTOMERS = 1_000
DAYS = 365
SEED = 1
"""With these defaults a bank has about 100,000 transactions."""

START = datetime.date(2023, 1, 1)

BANKS = ("AB", "CD", "EF", "GH", "IJ", "KL", "MN", "OP", "QR", "ST", "UV", "WX", "YZ")
DISTRICTS = 77
WEEKDAY_WEIGHTS = (80, 80, 85, 95, 140, 150, 70)
"""Monday to Sunday, percent of an average day."""
HOUR_WEIGHTS = (1, 0, 0, 0, 0, 1, 3, 8, 10, 9, 10, 14, 16, 12, 9, 10, 14, 18, 16, 12, 8, 5, 3, 2)
INTEREST_PER_MILLE = 30
PENALTY_PER_MILLE = 140
"""A year."""
ATM_PERCENT = (5, 10, 15, 20, 30, 40)
"""Of a month's income, at one visit to a cash machine."""


@dataclass(frozen=True, slots=True)
class GeneratedBank:
    """What was written."""

    directory: Path
    customers: int
    transactions: int
    first_date: datetime.date
    last_date: datetime.date


@dataclass(frozen=True, slots=True)
class _Order:
    """A standing order, or a salary, that moves an amount on its day of each month."""

    day: int
    amount: int
    """Hellers, signed as the customer sees it."""
    k_symbol: str
    bank: str
    account: int


@dataclass(frozen=True, slots=True)
class _Customer:
    account: int
    opened: int
    """The number of the day on which the account was opened."""
    deposit: int
    incomes: tuple[_Order, ...]
    orders: tuple[_Order, ...]
    card_use: float
    """Payments on an average day."""
    atm_use: float
    usual_payment: int
    overdraft: int
    fee: int


@dataclass(frozen=True, slots=True)
class _Event:
    minute: int
    """Of the day: the order of the rows."""
    account: int
    amount: int
    type: str
    operation: str
    k_symbol: str = ""
    bank: str = ""
    counterparty: str = ""


def generate_bank(
    directory: Path,
    *,
    customers: int = CUSTOMERS,
    days: int = DAYS,
    seed: int = SEED,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> GeneratedBank:
    """Write account.csv and trans.csv into a directory.

    Args:
        directory: is made if need be; must hold no other trans*.csv, which would be taken for a part of the books.
        customers: 1 or more, each with one account.
        days: 1 or more, from `START` on.
        seed: what decides everything.
        progress: is told how many days of how many are done.

    Raises:
        ValueError: no customers or no days.
        FileExistsError: there are other transactions in the directory.
        OSError: the files cannot be written.
    """
    if customers < 1 or days < 1:
        raise ValueError("a bank needs at least one customer and one day")
    directory.mkdir(parents=True, exist_ok=True)
    others = sorted(file.name for file in directory.glob("trans*.csv") if file.name != "trans.csv")
    if others:
        raise FileExistsError(f"{directory} holds {others[0]} already: a bank would mix with it")
    random = Random(seed)
    people = [_customer(random, number, days) for number in range(1, customers + 1)]
    _write_accounts(directory / "account.csv", people, random)
    with (directory / "trans.csv").open("w", encoding="ascii", newline="\n") as file:
        transactions = _write_transactions(file, people, random, days, progress)
    last = START + datetime.timedelta(days=days - 1)
    return GeneratedBank(directory, customers, transactions, START, last)


def _customer(random: Random, number: int, days: int) -> _Customer:
    """Invent a person: one in six lives on a pension, one in eight on little, the others on a salary."""
    lot = random.random()
    if lot < 0.17:
        income, k_symbol, day = random.randrange(9_000_00, 16_000_00, 100), "DUCHOD", random.choice((12, 14, 15))
    elif lot < 0.30:
        income, k_symbol, day = random.randrange(4_000_00, 9_000_00, 50), "", random.randint(1, 28)
    else:
        income, k_symbol, day = int(random.lognormvariate(10.2, 0.4)) * 100, "", random.choice((8, 10, 10, 12, 15, 31))
    rent = income * random.randint(22, 42) // 100
    orders = [_Order(random.randint(5, 14), -rent, "SIPO", random.choice(BANKS), _number(random))]
    if random.random() < 0.35:
        premium = random.randrange(150_00, 1_500_00, 100)
        orders.append(_Order(random.randint(3, 20), -premium, "POJISTNE", random.choice(BANKS), _number(random)))
    if random.random() < 0.15:
        payment = income * random.randint(8, 20) // 100
        orders.append(_Order(random.randint(8, 16), -payment, "UVER", random.choice(BANKS), _number(random)))
    if random.random() < 0.3:
        saving = random.randrange(200_00, 3_000_00, 5000)
        orders.append(_Order(random.randint(10, 28), -saving, "", random.choice(BANKS), _number(random)))
    return _Customer(
        account=number,
        opened=0 if random.random() < 0.8 else random.randrange(max(1, days // 2)),
        deposit=random.choice((200_00, 500_00, 1_000_00)) + income * random.randint(0, 150) // 100 // 100 * 100,
        incomes=(_Order(day, income, k_symbol, random.choice(BANKS), _number(random)),),
        orders=tuple(orders),
        card_use=random.choice((0.0, 0.03, 0.06, 0.1, 0.18)),
        atm_use=random.uniform(0.02, 0.12),
        usual_payment=max(80_00, income // 30),
        overdraft=random.choice((5_000_00, 10_000_00, 20_000_00)) if random.random() < 0.12 else 0,
        fee=random.choice((14_60, 14_60, 14_60, 30_00)),
    )


def _number(random: Random) -> int:
    return random.randrange(10_000_000, 99_999_999)


def _write_accounts(path: Path, people: list[_Customer], random: Random) -> None:
    frequencies = ("POPLATEK MESICNE",) * 9 + ("POPLATEK TYDNE",)
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write('"account_id";"district_id";"frequency";"date"\n')
        for person in people:
            opened = START + datetime.timedelta(days=person.opened)
            district, frequency = random.randint(1, DISTRICTS), random.choice(frequencies)
            file.write(f'{person.account};{district};"{frequency}";{opened:%y%m%d}\n')


def _write_transactions(
    file: TextIO, people: list[_Customer], random: Random, days: int, progress: Callable[[int, int], None]
) -> int:
    file.write('"trans_id";"account_id";"date";"type";"operation";"amount";"balance";"k_symbol";"bank";"account"\n')
    balances: dict[int, int] = {}
    month_totals: dict[int, int] = {}
    month_days = 0
    transactions = 0
    for day in range(days):
        date = START + datetime.timedelta(days=day)
        if date.day == 1:
            month_totals, month_days = {}, 0
        month_days += 1
        is_month_end = (date + datetime.timedelta(days=1)).day == 1
        events: list[_Event] = []
        for person in people:
            if day < person.opened:
                continue
            balance = balances.get(person.account, 0)
            for event in _day_of(person, random, date, balance, is_opening=day == person.opened):
                events.append(event)
                balance += event.amount
            total = month_totals[person.account] = month_totals.get(person.account, 0) + balance
            if is_month_end:
                events.extend(_month_end(person, total // month_days))
        events.sort(key=lambda event: event.minute)  # stable: one account's events stay in their order
        lines = []
        for event in events:
            transactions += 1
            balances[event.account] = balances.get(event.account, 0) + event.amount
            lines.append(_line(transactions, date, event, balances[event.account]))
        file.writelines(lines)
        progress(day + 1, days)
    return transactions


def _day_of(
    person: _Customer, random: Random, date: datetime.date, balance: int, *, is_opening: bool
) -> Iterator[_Event]:
    """What a customer does and what happens to them on a day, by the hour."""
    if is_opening:
        balance += person.deposit
        yield _Event(0, person.account, person.deposit, "PRIJEM", "VKLAD")
    for income in person.incomes:
        if date == _pay_day(date, income.day):
            balance += income.amount
            yield _transfer(6 * 60, person.account, income)
    for order in person.orders:
        if date.day == order.day and balance + order.amount >= -person.overdraft:
            balance += order.amount
            yield _transfer(7 * 60, person.account, order)
    busy = WEEKDAY_WEIGHTS[date.weekday()] / 100
    spending: list[tuple[int, int, str, str]] = []
    if random.random() < person.card_use * busy:
        amount = max(10_00, int(random.expovariate(1 / person.usual_payment)))
        spending.append((_minute(random), -amount, "VYBER KARTOU", ""))
    if random.random() < person.atm_use * busy:
        spending.append((_minute(random), -_notes(person, random), "VYBER", ""))
    if random.random() < 0.004 * busy:
        spending.append((_minute(random), random.randrange(500_00, 15_000_00, 100_00), "VKLAD", ""))
    for minute, amount, operation, k_symbol in sorted(spending):
        if amount > 0 or balance + amount >= -person.overdraft:
            balance += amount
            yield _Event(minute, person.account, amount, "PRIJEM" if amount > 0 else "VYDAJ", operation, k_symbol)


def _month_end(person: _Customer, average: int) -> Iterator[_Event]:
    """The statement fee, and interest on the month's average balance: a twelfth of the year's, rounded down."""
    interest = abs(average) * (INTEREST_PER_MILLE if average > 0 else PENALTY_PER_MILLE) // 12_000
    if average > 0 and interest:
        yield _Event(23 * 60, person.account, interest, "PRIJEM", "", "UROK")
    yield _Event(23 * 60 + 30, person.account, -person.fee, "VYDAJ", "VYBER", "SLUZBY")
    if average < 0 and interest:
        yield _Event(23 * 60 + 45, person.account, -interest, "VYDAJ", "VYBER", "SANKC. UROK")


def _pay_day(date: datetime.date, day: int) -> datetime.date:
    """The pay-day of the date's month: no later than its last day, and on the Friday before a weekend."""
    following = (date.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
    last = (following - datetime.timedelta(days=1)).day
    due = date.replace(day=min(day, last))
    return due - datetime.timedelta(days=max(0, due.weekday() - 4))


def _transfer(minute: int, account: int, order: _Order) -> _Event:
    kind = ("PRIJEM", "PREVOD Z UCTU") if order.amount > 0 else ("VYDAJ", "PREVOD NA UCET")
    return _Event(minute, account, order.amount, *kind, order.k_symbol, order.bank, str(order.account))


def _notes(person: _Customer, random: Random) -> int:
    """What a cash machine is asked for: whole hundreds of crowns."""
    return max(200_00, person.incomes[0].amount * random.choice(ATM_PERCENT) // 100 // 100_00 * 100_00)


def _minute(random: Random) -> int:
    return random.choices(range(24), HOUR_WEIGHTS)[0] * 60 + random.randrange(60)


def _line(number: int, date: datetime.date, event: _Event, balance: int) -> str:
    size = abs(event.amount)
    amount = f"{size // 100}.{size % 100:02d}"
    stated = f"{'-' if balance < 0 else ''}{abs(balance) // 100}.{abs(balance) % 100:02d}"
    return (
        f'{number};{event.account};{date:%y%m%d};"{event.type}";"{event.operation}";{amount};{stated};'
        f'"{event.k_symbol}";"{event.bank}";{event.counterparty}\n'
    )
