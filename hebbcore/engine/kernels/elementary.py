"""exp, log, larger, lowest and move, as LLVM can turn them into SIMD code inside a Numba loop on the CPU.

The C library's functions stay scalar calls there and take most of a softmax's time. In float32 these polynomials
(after the range reductions of Cephes' expf and logf) are within 5e-7 of the exact value; float64 calls the C library.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_f = np.float32
_LOWEST = _f(-87.0)  # exp of less is not a normal float32: it returns exp(-87) = 1.6e-38
_HIGHEST = _f(89.0)  # exp of 88.4 or more is infinity
_LOG2_E = _f(1.44269504)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)
_HALF, _ONE, _ROOT_HALF = _f(0.5), _f(1.0), _f(0.70710678)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@intrinsic
def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@intrinsic
def _bits_of_float(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


def exp(x: float) -> float:
    """Return e**x, in the type of x."""
    return math.exp(x)


def log(x: float) -> float:
    """Return the natural logarithm of a normal x > 0, in the type of x."""
    return math.log(x)


def larger(a: Any, b: Any) -> Any:
    """Return the larger of two numbers; NaN if one is NaN."""
    return a if a > b or a != a else b


def lowest(x: Any) -> Any:
    """Return the lowest finite number of the type of x: infinity would make a loop that looks for NaN too scalar."""
    return np.finfo(type(x)).min


def _mover(count: int) -> Any:
    """Return a function move(target, to, source, start): target[to : to + count] ← source[start : start + count].

    Both are C-contiguous, of one axis and one dtype, else it does not compile. It is one load and one store: in a loop
    that copies few numbers LLVM leaves them single, because the arrays might overlap.
    """

    @intrinsic
    def move(typing_context: Any, target: Any, to: Any, source: Any, start: Any) -> Any:
        if {(each.layout, each.ndim, each.dtype) for each in (target, source)} != {("C", 1, target.dtype)}:
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            numbers = ir.VectorType(context.get_data_type(target.dtype), count).as_pointer()

            def place(kind: Any, array: Any, index: Any) -> Any:
                first = context.make_array(kind)(context, builder, array).data
                return builder.bitcast(builder.gep(first, [index]), numbers)

            value = builder.load(place(source, *arguments[2:]), align=1)
            builder.store(value, place(target, *arguments[:2]), align=1)

        return types.void(target, to, source, start), generate

    return move


move4, move8, move16 = map(_mover, (4, 8, 16))


@overload(exp, inline="always")
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp32(x):
        x = min(max(x, _LOWEST), _HIGHEST)
        power = np.floor(x * _LOG2_E + _HALF)
        r = x - power * _LN2_HIGH - power * _LN2_LOW
        p = _f(1.9875691e-4)
        p = p * r + _f(1.3981999e-3)
        p = p * r + _f(8.3334519e-3)
        p = p * r + _f(4.1665796e-2)
        p = p * r + _f(1.6666665e-1)
        p = p * r + _HALF
        return (p * r * r + r + _ONE) * _float_of_bits((np.int32(power) + _BIAS) << _MANTISSA)

    return exp32


@overload(log, inline="always")
def _log(x):
    if x != types.float32:
        return lambda x: math.log(x)

    def log32(x):
        bits = _bits_of_float(x)
        power = _f((bits >> _MANTISSA) - np.int32(126))
        r = _float_of_bits((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000))  # in [1/2, 1)
        small = _f(r < _ROOT_HALF)
        power = power - small
        r = r + small * r - _ONE
        z = r * r
        p = _f(7.0376836e-2)
        p = p * r - _f(1.1514610e-1)
        p = p * r + _f(1.1676998e-1)
        p = p * r - _f(1.2420140e-1)
        p = p * r + _f(1.4249322e-1)
        p = p * r - _f(1.6668057e-1)
        p = p * r + _f(2.0000714e-1)
        p = p * r - _f(2.4999993e-1)
        p = p * r + _f(3.3333331e-1)
        return r + (p * r * z + power * _LN2_LOW - _HALF * z) + power * _LN2_HIGH

    return log32


@intrinsic
def _maximum(typing_context: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(signature.return_type)
        function = ir.FunctionType(number, [number, number])
        return builder.call(builder.module.declare_intrinsic("llvm.maximum", [number], function), arguments)

    number = typing_context.unify_types(a, b)
    return number(number, number), generate


@overload(larger, inline="always")
def _larger(a, b):
    return lambda a, b: _maximum(a, b)  # LLVM turns a comparison into masked stores, five times slower


@overload(lowest, inline="always")
def _lowest(x):
    least = np.finfo(np.float32 if x == types.float32 else np.float64).min
    return lambda x: least
