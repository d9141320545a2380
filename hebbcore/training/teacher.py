"""What labels say to the layers of a network: which units may learn from which image."""

from hebbcore import checks
from hebbcore.rules import RULES, Rule


def require_teachable(function: str, what: str, rule: Rule) -> None:
    """Raise ValueError if a rule takes no teacher; what: whose rule it is."""
    if rule.takes_teacher:
        return
    known = ", ".join(name for name, kind in RULES.items() if kind().takes_teacher)
    raise checks.wrong(
        ValueError, function, "teacher",
        f"is for rules that define taught_gate ({known}), and {type(rule).__name__}{what} does not; leave it out, or "
        "take another rule.",
    )  # fmt: skip
