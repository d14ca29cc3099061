"""`python -m opensoul.app`: the command `opensoul`, where no script of that name is installed."""

import sys

from .cli import main

sys.exit(main())
