"""`python -m hebbcore.cli`."""

import sys

from hebbcore.cli import main

sys.exit(main())
