"""Files that ship with the code: the pocket model, the showcase and the examples.

In a source tree they are next to the package; in an installation they are inside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE if (_PACKAGE / "examples.json").is_file() else _PACKAGE.parent
POCKET = ROOT / "assets" / "pocket"
EXAMPLES = ROOT / "examples.json"
