"""`python -m hebbcore`: the `hebbcore` command."""

import sys

from hebbcore.cli import main

sys.exit(main())
