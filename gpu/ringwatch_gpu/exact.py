"""Exact integer arithmetic on whole arrays: words of 128 or 192 bits in numpy, Python integers where ratios are taken.

A word array has a last axis of two or three uint64, the highest first: a two's complement integer. Sums over 10^6
frames of 10^5 pixels a bin need up to 101 bits (largest value 2^32, norms of 31 bits), weighed with a monitor of 32
bits up to 165.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Integers = NDArray[np.object_]

_DIGIT_BITS = 24  # a bin of 2^29 pixels still sums exactly in float64: 24 + 29 = 53 bits
_MASK_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)
_SIGN = np.uint64(63)


def words(low: NDArray[np.uint64], high: NDArray[np.uint64] | None = None) -> Words:
    """Word array from its low (and high) halves."""
    return np.stack([np.zeros_like(low) if high is None else high, low], axis=-1)


def signed_words(values: NDArray[np.int64]) -> Words:
    """Word array of signed integers."""
    return words(values.view(np.uint64), (values >> 63).view(np.uint64))


def from_signed_halves(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> Words:
    """The words of ``high * 2^32 + low``, where ``high`` is a sum in two's complement."""
    carried = (high.view(np.int64) >> 32).view(np.uint64)
    return add(words(high << _SHIFT_32, carried), words(low))


def from_halves(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> Words:
    """The words of ``high * 2^32 + low``, where both are sums of 32-bit halves and may themselves exceed 32 bits."""
    shifted = words(high << _SHIFT_32, high >> _SHIFT_32)
    return add(shifted, words(low))


def widened(a: Words, size: int) -> Words:
    """The same numbers with ``size`` words each."""
    sign = (a[..., :1].view(np.int64) >> 63).view(np.uint64)
    return np.concatenate([*[sign] * (size - a.shape[-1]), a], axis=-1)


def add(a: Words, b: Words) -> Words:
    """Sum modulo 2^(bits)."""
    total = a + b
    carry = total[..., -1] < a[..., -1]
    for word in range(a.shape[-1] - 2, -1, -1):
        total[..., word] += carry
        if word:
            carry = (total[..., word] < a[..., word]) | (carry & (total[..., word] == a[..., word]))
    return total


def subtract(a: Words, b: Words) -> Words:
    """Difference modulo 2^(bits)."""
    total = a - b
    borrow = a[..., -1] < b[..., -1]
    for word in range(a.shape[-1] - 2, -1, -1):
        total[..., word] -= borrow
        if word:
            borrow = (a[..., word] < b[..., word]) | (borrow & (a[..., word] == b[..., word]))
    return total


def total(a: Words) -> Words:
    """Sum over the first axis."""
    result: Words = a[0].copy()
    for row in a[1:]:
        result = add(result, row)
    return result


def grouped(a: Words, group: NDArray[np.integer], groups: int) -> Words:
    """Sums of the words (..., n, 2) that have the same ``group`` (n,), modulo 2^128: (..., groups, 2).

    Words of groups beyond [0, groups) are left out. Up to 2^32 words a group.
    """
    kept = group < groups
    halves = np.stack([a & _MASK_32, a >> _SHIFT_32], axis=-1)[..., kept, :, :]
    sums = np.zeros((groups, *a.shape[:-2], 2, 2), np.uint64)
    np.add.at(sums, group[kept], np.moveaxis(halves, -3, 0))
    high, low = np.moveaxis(np.moveaxis(sums, 0, -3), -2, 0)
    result = from_halves(low[..., 0], low[..., 1])
    result[..., 0] += high[..., 0] + (high[..., 1] << _SHIFT_32)
    return result


def scaled(a: Words, factor: int | NDArray[np.uint64]) -> Words:
    """Product with integers in [0, 2^32), one or an array that fits all axes but the last; modulo 2^(bits)."""
    f, result = np.uint64(factor) if isinstance(factor, int) else factor, np.empty_like(a)
    carry = np.zeros(a.shape[:-1], np.uint64)
    for word in range(a.shape[-1] - 1, -1, -1):
        low = (a[..., word] & _MASK_32) * f + carry
        high = (a[..., word] >> _SHIFT_32) * f + (low >> _SHIFT_32)
        result[..., word] = (high << _SHIFT_32) | (low & _MASK_32)
        carry = high >> _SHIFT_32
    return result


def to_integers(a: Words) -> Integers:
    """Python integers (signed), so that any product is exact."""
    number = a[..., 0].astype(np.int64).astype(object)
    for word in range(1, a.shape[-1]):
        number = (number << 64) + a[..., word].astype(object)
    return np.asarray(number, dtype=object)


def from_integers(values: Integers, size: int = 2) -> Words:
    """Words of Python integers, modulo 2^(bits)."""
    parts = [(values >> (64 * word)) & ((1 << 64) - 1) for word in range(size - 1, -1, -1)]
    return np.stack([part.astype(np.uint64) for part in parts], axis=-1)


def to_float(a: Words) -> NDArray[np.float64]:
    """Nearest float64, to one unit in the last place."""
    negative = (a[..., 0] >> _SIGN).astype(np.bool_)
    if negative.any():  # nothing cancels where the magnitude is taken first
        magnitude = to_float(np.where(negative[..., np.newaxis], subtract(np.zeros_like(a), a), a))
        return np.where(negative, -magnitude, magnitude)
    number = a[..., 0].astype(np.float64)
    for word in range(1, a.shape[-1]):
        number = number * 2.0**64 + a[..., word].astype(np.float64)
    return number


def bincount(index: NDArray[np.integer], values: NDArray[np.uint64], bins: int) -> Words:
    """Exact sum of ``values`` per index in [0, bins): one floating bincount for each 24-bit digit."""
    result = np.zeros((bins, 2), np.uint64)
    largest = int(values.max(initial=0))
    for shift in range(0, max(largest.bit_length(), 1), _DIGIT_BITS):
        digit = (values >> np.uint64(shift)) & np.uint64((1 << _DIGIT_BITS) - 1)
        sums = np.bincount(index, digit.astype(np.float64), bins).astype(np.uint64)
        high = sums >> np.uint64(64 - shift) if shift else np.zeros_like(sums)
        result = add(result, words(sums << np.uint64(shift), high))
    return result


def signed_bincount(
    index: NDArray[np.integer], values: NDArray[np.int64], factor: NDArray[np.uint64], bins: int
) -> Words:
    """Exact sum of ``values`` x ``factor``, magnitudes below 2^64, per index in [0, bins)."""
    magnitude = np.abs(values).astype(np.uint64) * factor
    up, down = (bincount(index, np.where(part, magnitude, np.uint64(0)), bins) for part in (values > 0, values < 0))
    return subtract(up, down)
