"""Which small changes are tried: each is one place in a module's syntax tree, and what stands there instead.

Bounds and negations, terms left out, constants off by one, and/or, min/max, first/last of several, a guard
that always or never holds, a statement, argument, row or member left out, the other member of an enum, the
other leg, clock or side. Not tried: annotations, docstrings, texts of errors, imports, options of a class.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

CONTEXT = 32
TEXT_MAX = 120

Place = tuple[tuple[str, int | None], ...]

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_RECKONED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
}
_PAIRS = (
    ("min", "max"),
    ("any", "all"),
    ("bisect_left", "bisect_right"),
    ("startswith", "endswith"),
    ("lstrip", "rstrip"),
    ("removeprefix", "removesuffix"),
    ("partition", "rpartition"),
    ("append", "appendleft"),
    ("pop", "popleft"),
    ("upper", "lower"),
    ("union", "intersection"),
    ("mono_ns", "wall_ns"),
    ("answered", "b_answered"),
    ("answered_at", "b_answered_at"),
    ("a_life", "b_life"),
    ("state_a", "state_b"),
    ("leg_a", "leg_b"),
    ("started", "ended"),
    ("invited_at", "ended_at"),
    ("sell", "buy"),
    ("received", "sent"),
    ("talk_ms", "billable_ms"),
    ("net", "total"),
    ("granted_s", "max_duration_s"),
    ("effective_from", "effective_to"),
    ("start_s", "increment_s"),
    ("per_s", "increment_s"),
    ("local_tag", "remote_tag"),
    ("local_cseq", "remote_cseq"),
)
_OTHER = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_WHOLE = {"sorted": "list", "reversed": "iter", "abs": "", "round": "", "tuple": "", "frozenset": ""}
_EITHER_WAY = {"isinstance", "min", "max", "lcm"}  # the order of arguments means nothing, or only one does


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module. `key` names it without line numbers, so that a list of them lasts."""

    module: Path
    line: int
    last_line: int
    function: str
    text: str
    number: int
    place: Place
    instead: ast.AST

    @property
    def key(self) -> str:
        again = f" #{self.number}" if self.number else ""
        return f"{self.module} {self.function}: {self.text}{again}"

    def apply(self, tree: ast.Module) -> ast.Module:
        """`tree`, which is changed, with this mutant in it."""
        *way, (field, index) = self.place
        node: ast.AST = tree
        for step, at in way:
            node = getattr(node, step) if at is None else getattr(node, step)[at]
        found = getattr(node, field) if index is None else getattr(node, field)[index]
        instead = copy.deepcopy(self.instead)
        for part in ast.walk(instead):
            if "lineno" in part._attributes and not hasattr(part, "lineno"):
                ast.copy_location(part, found)
        if index is None:
            setattr(node, field, instead)
        else:
            getattr(node, field)[index] = instead
        return ast.fix_missing_locations(tree)


def mutants(module: Path, enums: dict[str, tuple[str, ...]]) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(module.read_text("utf-8"))
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for place, node, function in _walk(tree, (), ""):
        for before, instead in _changes(node, enums):
            text = _difference(_text(before), _text(instead))
            if not text:
                continue
            spot = node.pattern if isinstance(node, ast.match_case) else cast("ast.expr", node)
            line, last_line = spot.lineno, spot.end_lineno or spot.lineno
            number = seen[function, text]
            seen[function, text] += 1
            found.append(Mutant(module, line, last_line, function, text, number, place, instead))
    return sorted(found, key=lambda mutant: mutant.line)


def enums_of(files: list[Path]) -> dict[str, tuple[str, ...]]:
    """The members of every enum that these files define, by its name."""
    found = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any("Enum" in _text(base) for base in node.bases):
                members = [part.targets[0] for part in node.body if isinstance(part, ast.Assign)]
                found[node.name] = tuple(part.id for part in members if isinstance(part, ast.Name))
    return found


def _walk(node: ast.AST, place: Place, function: str) -> Iterator[tuple[Place, ast.AST, str]]:
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "bases"} or (
            field == "keywords" and isinstance(node, ast.ClassDef)
        ):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(child, ast.AST) or _left_alone(child):
                continue
            inside = function
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inside = f"{function}.{child.name}".lstrip(".")
            here = (*place, (field, index))
            yield here, child, inside
            yield from _walk(child, here, inside)


def _left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__" | "__match_args__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case ast.match_case(body=[ast.Expr(value=ast.Call(func=ast.Name(id="assert_never")))]):
            return True
        case ast.Call(func=ast.Name(id=name)) if name.endswith(("Error", "TypeVar", "NewType", "cast")):
            return True
    return False


def _changes(node: ast.AST, enums: dict[str, tuple[str, ...]]) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(what is there, what stands there instead) of one node."""
    made: Iterator[ast.AST]
    match node:
        case ast.stmt():
            made = _of_statement(node)
        case ast.expr():
            made = _of_expression(node, enums)
        case ast.match_case(guard=guard) if guard is not None:
            made = iter([_with(node, guard=ast.Constant(False)), _with(node, guard=ast.Constant(True))])
        case _:
            return
    for instead in made:
        yield node, instead


def _of_statement(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.If() | ast.While():
            yield _with(node, test=ast.Constant(False))
            if isinstance(node, ast.If):
                yield _with(node, test=ast.Constant(True))
        case ast.Expr(value=value) if isinstance(value, (ast.Call, ast.Await)):
            yield ast.Pass()
        case ast.Raise() | ast.Break() | ast.Continue() | ast.Delete():
            yield ast.Pass()
        case ast.AugAssign():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Return(value=value) if value is not None:
            match value:
                case ast.Constant(value=bool() | None):
                    pass
                case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                    yield ast.Return(ast.Constant(True))
                    yield ast.Return(ast.Constant(False))
                case _:
                    yield ast.Return(ast.Constant(None))
        case ast.For(body=body, iter=several):
            if any(isinstance(part, (ast.Break, ast.Return)) for one in body for part in ast.walk(one)):
                yield _with(node, iter=_call("reversed", _call("list", several)))
        case ast.Match(cases=cases) if len(cases) > 1:
            for index, case in enumerate(cases):
                if not _left_alone(case):
                    yield _with(node, cases=[*cases[:index], *cases[index + 1 :]])


def _of_expression(node: ast.expr, enums: dict[str, tuple[str, ...]]) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[op], left=left, comparators=[right]):
            for other in _COMPARED[type(op)]:
                yield ast.Compare(left, [other()], [right])
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                other = _COMPARED[type(op)][0]
                yield _with(node, ops=[*ops[:index], other(), *ops[index + 1 :]])
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _RECKONED:
            yield ast.BinOp(left, _RECKONED[type(op)](), right)
            yield left
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(value + "x")
        case ast.Attribute(value=ast.Name(id=name), attr=attr) if attr in enums.get(name, ()):
            members = enums[name]
            if len(members) > 1:
                yield _with(node, attr=members[(members.index(attr) + 1) % len(members)])
        case ast.Attribute(attr=attr) if attr in _OTHER:
            yield _with(node, attr=_OTHER[attr])
        case ast.Name(id=name) if name in _OTHER and isinstance(node.ctx, ast.Load):
            if name in {"min", "max", "any", "all", "bisect_left", "bisect_right"}:
                yield ast.Name(_OTHER[name], ast.Load())
        case ast.Subscript(value=several, slice=ast.Constant(value=0), ctx=ast.Load()):
            yield ast.Subscript(several, ast.UnaryOp(ast.USub(), ast.Constant(1)), ast.Load())
        case ast.Subscript(
            value=several,
            slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)),
            ctx=ast.Load(),
        ):
            yield ast.Subscript(several, ast.Constant(0), ast.Load())
        case ast.Call():
            yield from _of_call(node)
        case ast.Dict(keys=keys, values=values) if len(keys) > 1:
            for index in range(len(keys)):
                yield ast.Dict([*keys[:index], *keys[index + 1 :]], [*values[:index], *values[index + 1 :]])
        case ast.Set(elts=parts) if len(parts) > 1:
            for index in range(len(parts)):
                yield ast.Set([*parts[:index], *parts[index + 1 :]])
        case ast.ListComp(generators=[one]) | ast.SetComp(generators=[one]) | ast.DictComp(generators=[one]):
            yield from _without_condition(node, one)
        case ast.GeneratorExp(generators=[one]):
            yield from _without_condition(node, one)


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    match node:
        case ast.Call(func=ast.Name(id="next"), args=[several]):
            yield _last(ast.List([ast.Starred(several, ast.Load())], ast.Load()))
        case ast.Call(func=ast.Name(id="next"), args=[several, default]):
            yield _last(ast.List([default, ast.Starred(several, ast.Load())], ast.Load()))
        case ast.Call(func=ast.Name(id=name), args=[several, *_]) if name in _WHOLE:
            instead = _WHOLE[name]
            if instead:
                yield _call(instead, several)
            elif name in {"abs", "round"}:
                yield several
    for index in range(len(node.keywords)):
        if node.keywords[index].arg is not None:
            yield _with(node, keywords=[*node.keywords[:index], *node.keywords[index + 1 :]])
    simple = (ast.Name, ast.Attribute)
    for index, (one, other) in enumerate(zip(node.args, node.args[1:], strict=False)):
        if isinstance(one, simple) and isinstance(other, simple) and _text(node.func) not in _EITHER_WAY:
            yield _with(node, args=[*node.args[:index], other, one, *node.args[index + 2 :]])


def _without_condition(node: ast.expr, one: ast.comprehension) -> Iterator[ast.AST]:
    for index in range(len(one.ifs)):
        yield _with(node, generators=[_with(one, ifs=[*one.ifs[:index], *one.ifs[index + 1 :]])])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    made = copy.copy(node)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def _last(several: ast.expr) -> ast.Subscript:
    return ast.Subscript(several, ast.UnaryOp(ast.USub(), ast.Constant(1)), ast.Load())


def _text(node: ast.AST) -> str:
    match node:
        case ast.match_case(pattern=pattern, guard=guard):
            return f"case {ast.unparse(pattern)}" + (f" if {ast.unparse(guard)}" if guard else "")
        case ast.If(test=test):
            return f"if {ast.unparse(test)}"
        case ast.While(test=test):
            return f"while {ast.unparse(test)}"
        case ast.For(target=target, iter=several):
            return f"for {ast.unparse(target)} in {ast.unparse(several)}"
        case ast.Match(subject=subject, cases=cases):
            return f"match {ast.unparse(subject)}: {'; '.join(map(_text, cases))}"
    return " ".join(ast.unparse(node).split())


def _difference(before: str, after: str) -> str:
    """Both texts, without what is the same far from the change; empty if nothing differs."""
    if before == after:
        return ""
    first = _alike(before, after)
    last = min(_alike(before[::-1], after[::-1]), min(len(before), len(after)) - first)
    return f"{_around(before, first, last)} -> {_around(after, first, last)}"


def _alike(one: str, other: str) -> int:
    """How many characters are the same at the beginning."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _around(text: str, first: int, last: int) -> str:
    begin, end = max(0, first - CONTEXT), min(len(text), len(text) - last + CONTEXT)
    middle = text[begin:end]
    if len(middle) > TEXT_MAX:
        middle = f"{middle[: TEXT_MAX // 2]}…{middle[-TEXT_MAX // 2 :]}"
    return ("…" if begin else "") + middle + ("…" if end < len(text) else "")
