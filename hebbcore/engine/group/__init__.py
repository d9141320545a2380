"""Processes that train one network together: who they are, and how the sums of their rows become one."""
