"""Expressions as text: what is printed is read back, and nothing written is ever executed."""

from __future__ import annotations

import time

import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.core import symbols as role
from nlmewidgets.core.expression import FUNCTIONS, parse, role_key, to_text

x, y = sp.symbols("x y", real=True)
p, k = sp.symbols("p k", positive=True)
ROLES = [
    role.plain_theta("x"),
    role.plain_theta("k", 0.0),
    role.plain_eta("x"),
    role.plain_sigma("a b"),
    nw.covariate("p"),
]
ODD = [sp.Symbol(name, real=True) for name in ("k_{12}", "CL/F", "lambda", "µ", "E", "pi", "x'y", "exp", "1st", "a\\b")]
LETTERS = [x, y, p, k, nw.time, nw.dose, nw.f, *ODD]
SYMBOLS = {s.name: s for s in LETTERS} | {role_key(s): s for s in ROLES}


def test_every_role_is_told_apart_from_a_plain_symbol_of_its_name():
    expr = x + 2 * role.plain_theta("x") + 3 * role.plain_eta("x")
    assert to_text(expr) == "x + 2*theta('x') + 3*eta('x')"
    assert parse(to_text(expr), SYMBOLS) == expr


@pytest.mark.parametrize("symbol", ODD, ids=lambda s: s.name)
def test_any_name_survives(symbol):
    # Names that are no identifiers, keywords, functions, constants, and letters Python folds into others.
    expr = symbol * sp.exp(-symbol) + sp.E * sp.pi
    assert parse(to_text(expr), SYMBOLS) == expr


@pytest.mark.parametrize("number", [0.1 + 0.2, 1 / 3, 1e-300, -1e300, 2.5, 5e-324], ids=repr)
def test_floats_keep_every_digit(number):
    assert float(parse(to_text(sp.Float(number) + x), SYMBOLS).subs(x, 0)) == number


EXPRESSIONS = {
    "exp": sp.exp(x),
    "log": sp.log(p),
    "sqrt": sp.sqrt(p) + 1 / sp.sqrt(k),
    "sin": sp.sin(x),
    "cos": sp.cos(x),
    "tan": sp.tan(x),
    "sinh": sp.sinh(x),
    "cosh": sp.cosh(x),
    "tanh": sp.tanh(x),
    "atan": sp.atan(x),
    "erf": sp.erf(x),
    "Abs": sp.Abs(x),
    "sign": sp.sign(x),
    "floor": sp.floor(x),
    "Max": sp.Max(x, y, 2),
    "Min": sp.Min(x, 0.5),
    "Piecewise": sp.Piecewise((x, x < 1), (y, True)),
    "And": sp.Piecewise((x, (x < 1) & (y >= 2) & (p > k)), (y, True)),
    "Or": sp.Piecewise((x, (x < 1) | ((y > 2) & (x > y))), (y, True)),
    "Not": sp.Piecewise((x, sp.Not(sp.Or(x < 1, sp.Eq(y, 2)))), (y, True)),
    "Eq": sp.Piecewise((x, sp.Eq(y, 1)), (2, True)),
    "Ne": sp.Piecewise((x, sp.Ne(y, 1)), (2, True)),
    "ITE": sp.Piecewise((x, sp.ITE(x < 1, y < 2, y > 3)), (2, True)),
    "expit": nw.expit(x),
    "ndtr": nw.ndtr(x),
    "ndtri": nw.ndtri(x),
    "log_ndtr": nw.log_ndtr(x),
    "log_ndtr_between": nw.log_ndtr_between(x, x + p),
    "loggamma": sp.loggamma(p),
    "ExpMix": nw.ExpMix(0, 1, p * nw.time, k * nw.time),
}


def test_there_is_an_example_of_every_function():
    assert set(EXPRESSIONS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_read_back(name):
    assert parse(to_text(EXPRESSIONS[name]), SYMBOLS) == EXPRESSIONS[name]


def atoms() -> st.SearchStrategy[sp.Expr]:
    number = st.one_of(
        st.integers(-20, 20).map(sp.Integer),
        st.fractions(-9, 9, max_denominator=12).map(lambda q: sp.Rational(q.numerator, q.denominator)),
        st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3).map(sp.Float),
    )
    return st.one_of(st.sampled_from(LETTERS + ROLES), number)


def extend(inner: st.SearchStrategy[sp.Expr]) -> st.SearchStrategy[sp.Expr]:
    one = st.sampled_from([sp.exp, sp.sin, sp.cosh, sp.tanh, sp.atan, sp.erf, nw.expit, nw.ndtr])
    # Roots of symbols only: SymPy has several forms of a constant such as 2**(5/6)*6**(1/3).
    roots = st.sampled_from([sp.Rational(-1, 2), sp.Rational(1, 2), sp.Rational(2, 3)])
    return st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda a: sp.Add(*a)),
        st.lists(inner, min_size=2, max_size=4).map(lambda a: sp.Mul(*a)),
        st.tuples(inner, st.sampled_from([-2, -1, 2, 3])).map(lambda a: a[0] ** a[1]),
        st.tuples(st.sampled_from(LETTERS + ROLES), roots).map(lambda a: a[0] ** a[1]),
        st.tuples(one, inner).map(lambda a: a[0](a[1])),
        st.tuples(inner, atoms(), inner).map(lambda a: sp.Piecewise((a[0], x < a[1]), (a[2], True))),
    )


def is_declaration(expr: sp.Expr) -> bool:
    """Whether every number in it is real and has a double: not 1/0, (-2)**(1/2), 1e200**2."""
    numbers = [part for part in sp.preorder_traversal(expr) if getattr(part, "is_number", False)]
    real = all(n.is_real and 1e-300 < abs(complex(n)) < 1e300 or n.is_zero for n in numbers)
    return real and not expr.has(sp.AccumBounds)  # what SymPy makes of atan(1/0)


@given(st.recursive(atoms(), extend, max_leaves=10))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_parse_restores_what_to_text_printed(expr):
    assume(is_declaration(expr))
    assert parse(to_text(expr), SYMBOLS) == expr


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("dose/p*exp(-k*t)", nw.dose / p * sp.exp(-k * nw.time)),
        (" -x**2 ", -(x**2)),
        ("2*(x + 1)*y", 2 * y * (x + 1)),
        ("x - (y - p) - -k", x - y + p + k),
        ("x/y/p", x / (y * p)),
        ("x**y**p", x ** (y**p)),
        ("2**-1", sp.Rational(1, 2)),
        ("+x", x),
        ("1e-3*x", sp.Float(1e-3) * x),
        ("Piecewise((x, x < 1 and not y > 2), (0, True))", sp.Piecewise((x, (x < 1) & (y <= 2)), (0, True))),
        ("sqrt(exp(2))", sp.E),
        ("µ + 1", ODD[3] + 1),
    ],
)
def test_text_means_what_it_does_in_python(text, expr):
    assert parse(text, SYMBOLS) == expr


HOSTILE = {
    # Nothing of Python but arithmetic.
    "__import__('os').system('touch pwned')": "write arithmetic",
    "__import__('os')": "there is no function '__import__'",
    "x.__class__": "write arithmetic",
    "(1).__class__.__bases__[0].__subclasses__()": "write arithmetic",
    "__builtins__": "no symbol of this name is declared",
    "__class__": "no symbol of this name is declared",
    "lambda: x": "write arithmetic",
    "[x for x in y]": "write arithmetic",
    "{x: y}": "write arithmetic",
    "f'{x}'": "write arithmetic",
    "'text'": "only numbers are constants",
    "b'x'": "only numbers are constants",
    "None": "only numbers are constants",
    "...": "only numbers are constants",
    "1j": "only numbers are constants",
    "x[0]": "write arithmetic",
    "x if y else p": "write arithmetic",
    "(x := 1)": "write arithmetic",
    "await x": "write arithmetic",
    "x @ y": "write arithmetic",
    "x // y": "write arithmetic",
    "x % y": "write arithmetic",
    "x ^ 2": "write ** for a power",
    "x < y < p": "write arithmetic",
    "exp(*x)": "write arithmetic",
    "exp(x, evaluate=False)": "write arithmetic",
    "eval('x')": "there is no function 'eval'",
    "exec(x)": "there is no function 'exec'",
    "Lambda(x, y)": "there is no function 'Lambda'",
    "sympify(x)": "there is no function 'sympify'",
    "theta('z')": "no theta of this name is declared",
    "symbol('z')": "no symbol of this name is declared",
    "theta(x)": "there is no function 'theta'",
    "z + 1": "no symbol of this name is declared (there are ",
    # Not an expression at all.
    "": "is not an expression",
    "import os": "is not an expression",
    "x = 1": "is not an expression",
    "x; y": "is not an expression",
    "x y": "is not an expression",
    "x\x00": "is not an expression",
    "\ud800": "is not an expression",
    # Not a real number.
    "1/0": "too large, too small or not real",
    "x/0": "it is zero, in a denominator",
    "1/(x - x)": "it is zero, in a denominator",
    "sqrt(-1)": "too large, too small or not real",
    "log(0)": "too large, too small or not real",
    "log(x - x)": "it is not a finite real number",
    "(-8)**(1/3)": "too large, too small or not real",
    "1e999": "too large, too small or not real",
    "x < y": "a number is needed here",
    "True": "a number is needed here",
    "(x < y)*2": "a number is needed here",
    "x and y": "a comparison is needed here",
    "Piecewise((x, y))": "a comparison is needed here",
    "Piecewise(x)": "each case of Piecewise is (value, condition)",
    "x, y": "write arithmetic",
    "exp()": "exp takes exactly 1 argument (0 given)",
    "exp(1, 2)": "exp takes exactly 1 argument (2 given)",
    "ExpMix(99, 0, x, y)": "the first two numbers of ExpMix are whole, 0 to 4",
    "ExpMix(x, 0, x, y)": "the first two numbers of ExpMix are whole, 0 to 4",
    # Exact arithmetic would take minutes, or all memory.
    "9**9**9": "exponents are limited to 1000",
    "10**1000**1000": "too large, too small or not real",
    "((9**200)**200)**200": "too large, too small or not real",
    "x**9999": "exponents are limited to 1000",
    "9" * 400: "too large, too small or not real",
    "9" * 5000: "is not an expression",
    "exp(exp(100))": "too large, too small or not real",
    "floor(exp(exp(100)))": "too large, too small or not real",
    "Max(exp(exp(50)), 2)": "too large, too small or not real",
    "1e-200*1e-200": "too large, too small or not real",
    # Depth and length.
    "(" * 500 + "x" + ")" * 500: "is not an expression",
    "-" * 15_000 + "x": "is nested too deeply",
    "not " * 4_000 + "x": "is nested too deeply",
    "exp(" * 150 + "x" + ")" * 150 + "**2" * 3_000: "is nested too deeply",
    "**".join(["x"] * 6_000): "is nested too deeply",
    "+".join(["x"] * 9_000): "is nested too deeply",
    "x+" * 50_000 + "x": "has 100001 characters; an expression has at most 20000",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t[:30]))
def test_hostile_text_is_refused_at_once_in_a_sentence(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = time.perf_counter()
    with pytest.raises(nw.ModelError) as error:
        parse(text, SYMBOLS)
    assert time.perf_counter() - began < 2.0
    message = str(error.value)
    assert HOSTILE[text] in message
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    assert not list(tmp_path.iterdir())  # nothing was executed


@pytest.mark.parametrize(
    "text",
    [
        "floor(1 + exp(-700))",
        "floor(tanh(10**300))",
        "floor(exp(700))",
        "sign(exp(700) - exp(700) + 1)",
        "Max(1, tanh(10**300), x)",
        "cos(10**300*pi)",
        "(10**300 + 7)**(1/997)",
        "2**(1/1000003)",
        "(x + 1)**1000",
        "+".join(["x*y"] * 900),
        "*".join(["(x + 1)"] * 900),
    ],
    ids=lambda t: t[:30],
)
def test_large_but_finite_numbers_are_quick(text):
    began = time.perf_counter()
    parse(text, SYMBOLS)
    assert time.perf_counter() - began < 2.0


@given(st.text(st.sampled_from("xyE0129.,+-*/()<>&|~ '\"eEj[]{}:=lambda_\n"), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused_in_a_sentence(text):
    try:
        assert isinstance(parse(text, SYMBOLS), sp.Expr)
    except nw.ModelError as error:
        sentence = str(error)
    else:
        return
    assert sentence.endswith(".")
