"""What comes with the code: the pocket model, the stored runs and the examples.

In a source tree it lies beside the package, in an installed one inside.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE if (_PACKAGE / "examples.json").is_file() else _PACKAGE.parent
POCKET = ROOT / "assets" / "pocket"
EXAMPLES = ROOT / "examples.json"
