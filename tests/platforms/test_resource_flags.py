"""Amounts of CPU and memory on the command line: in the units of caliban 0.4.2, or as Kubernetes writes them."""

from __future__ import annotations

import argparse

import pytest

from caliban.platforms.resource_flags import megabytes, millicpus


@pytest.mark.parametrize(("text", "value"), [("1500", 1500), ("1500m", 1500), ("8m", 8), ("50", 50)])
def test_cpus_are_counted_in_thousandths(text: str, value: int) -> None:
    assert millicpus(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4000", 4000),
        ("4G", 4000),
        ("4Gi", 4294),
        ("512Mi", 536),
        ("1K", 1),
        ("4M", 4),
        ("9000000K", 9000),
        ("1T", 10**6),
    ],
)
def test_memory_is_counted_in_megabytes_rounded_down(text: str, value: int) -> None:
    assert megabytes(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "instead"),
    [(millicpus, "8", "write 8000 for 8 CPUs, or 8m"), (megabytes, "4", "write 4G for 4 GB, or 4M")],
)
def test_a_number_in_another_unit_is_an_error_that_says_what_to_write(
    parse: type[int], text: str, instead: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=instead):
        parse(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "m", "0m", "1e3", "\N{ARABIC-INDIC DIGIT FIVE}00", "8 "])
def test_what_is_no_number_of_cpus_is_an_error(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        millicpus(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0G", "-1", "1.5G", "G", "4GB", "4i", "4Pi", "\N{ARABIC-INDIC DIGIT FIVE}00"]
)
def test_what_is_no_amount_of_memory_is_an_error(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        megabytes(text)
