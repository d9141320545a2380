"""The learning rules, by name."""

from typing import Any

from hebbcore import checks
from hebbcore.engine.rule import Rule
from hebbcore.rules.hard_wta import HardWTA
from hebbcore.rules.hpca import HPCA
from hebbcore.rules.krotov import Krotov
from hebbcore.rules.kwta import KWTA
from hebbcore.rules.signed_wta import SignedWTA
from hebbcore.rules.soft_hebb import SoftHebb
from hebbcore.rules.swta import SWTA

__all__ = ["HPCA", "KWTA", "RULES", "SWTA", "HardWTA", "Krotov", "Rule", "SignedWTA", "SoftHebb", "as_rule"]

RULES: dict[str, type[Rule]] = {
    "hpca": HPCA,
    "swta": SWTA,
    "kwta": KWTA,
    "signedwta": SignedWTA,
    "softhebb": SoftHebb,
    "hardwta": HardWTA,
    "krotov": Krotov,
}


def as_rule(function: str, rule: Any) -> Rule:
    """Return a rule for a Rule or for a name in RULES, with its default parameters."""
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, type) and issubclass(rule, Rule):
        raise TypeError(f"{function}: rule must be an instance, got the class {rule.__name__}; use {rule.__name__}().")
    if not isinstance(rule, str):
        raise TypeError(f"{function}: rule must be a Rule or one of {', '.join(map(repr, RULES))}; got {rule!r}.")
    return RULES[checks.choice(function, "rule", rule, RULES)]()
