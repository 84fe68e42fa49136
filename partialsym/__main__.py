"""`python -m partialsym`: the command line."""

import sys

from partialsym.cli.main import main

sys.exit(main())
