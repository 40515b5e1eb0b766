"""`python -m x2l.cli` is `x2l`."""

import sys

from x2l.cli.app import main

sys.exit(main())
