"""`python -m conveyor.cli`, the same as `conveyor`."""

import sys

from conveyor.cli import main

sys.exit(main())
