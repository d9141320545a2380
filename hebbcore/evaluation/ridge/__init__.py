"""An exact ridge classifier for arrays and streams."""
