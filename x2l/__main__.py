"""`python -m x2l` is `x2l`: what torchrun starts."""

import sys

from x2l.cli.app import main

sys.exit(main())
