"""The learning rules, by name."""

from typing import Any

from hebbcore import checks
from hebbcore.engine.rule import Rule
from hebbcore.rules.hard_wta import HardWTA
from hebbcore.rules.hpca import HPCA
from hebbcore.rules.ica import ICA
from hebbcore.rules.krotov import Krotov
from hebbcore.rules.kwta import KWTA
from hebbcore.rules.signed_wta import SignedWTA
from hebbcore.rules.soft_hebb import SoftHebb
from hebbcore.rules.supervised import Supervised
from hebbcore.rules.swta import SWTA

__all__ = [
    "HPCA",
    "ICA",
    "KWTA",
    "RULES",
    "SWTA",
    "HardWTA",
    "Krotov",
    "Rule",
    "SignedWTA",
    "SoftHebb",
    "Supervised",
    "as_rule",
]

RULES: dict[str, type[Rule]] = {
    "hpca": HPCA,
    "ica": ICA,
    "swta": SWTA,
    "kwta": KWTA,
    "signedwta": SignedWTA,
    "softhebb": SoftHebb,
    "hardwta": HardWTA,
    "krotov": Krotov,
    "supervised": Supervised,
}


def as_rule(function: str, rule: Any) -> Rule:
    """Return a rule for a Rule or for a name in RULES, with its default parameters.

    Parameters
    ----------
    function : str
        The name of the function that asks, for errors.
    rule : Rule or str
        An instance, or a name in RULES.

    Returns
    -------
    Rule
        The instance itself, or a new one.

    Raises
    ------
    TypeError
        For a class in the place of an instance, for what is neither Rule nor name, and for an entry of RULES that is no
        class of rules.
    ValueError
        For a name that is not in RULES.
    """
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, type) and issubclass(rule, Rule):
        problem = f"must be an instance, got the class {rule.__name__}; use {rule.__name__}()."
        raise checks.wrong(TypeError, function, "rule", problem)
    if not isinstance(rule, str):
        problem = f"must be a Rule or one of {', '.join(map(repr, RULES))}; got {rule!r}."
        raise checks.wrong(TypeError, function, "rule", problem)
    kind: Any = RULES[checks.choice(function, "rule", rule, RULES)]
    if not isinstance(kind, type) or not issubclass(kind, Rule):
        raise TypeError(f"{function}: hebbcore.RULES[{rule!r}] must be a class of rules, got {kind!r}.")
    return kind()
