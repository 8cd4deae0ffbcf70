"""Install Chromium for the browser tests: with apt-get as root on Debian, with Playwright elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

#: Programs, which Debian's packages are named for. The headless shell is the same browser, and faster.
NAMES = ("chromium-headless-shell", "chromium")


def main() -> int:
    """Install Chromium where there is none. Return 0 if there is a Chromium in the end."""
    if os.environ.get("NBCHAT_CHROMIUM"):
        return 0
    has_apt = shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0
    if has_apt and not shutil.which(NAMES[0]):
        _apt_get("update", "-qq")
    for name in NAMES:
        if shutil.which(name) or (has_apt and _apt_get("install", "-y", "-qq", name, "fonts-dejavu-core")):
            return 0
    shell = ["install", "--only-shell", "chromium"]
    if subprocess.run([sys.executable, "-m", "playwright", *shell], check=False).returncode == 0:
        return 0
    print("Chromium could not be installed. Install one, and name it: NBCHAT_CHROMIUM=/path/to/chromium make test")
    return 1


def _apt_get(*words: str) -> bool:
    """Run apt-get quietly. Return True if it did what it should."""
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
    command = ["apt-get", "-o", "Acquire::http::Timeout=30", "-o", "DPkg::Lock::Timeout=120", *words]
    return subprocess.run(command, check=False, **quiet).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
