"""`python -m siftline_workers.look_at_weights`: are the weights of the settings' backbone there and whole?

One line on standard output; exit code 1 when they are not.
"""

import sys

from siftline.settings import Settings
from siftline_workers.methods.backbones import find_weights, preset_named
from siftline_workers.methods.weights import WeightsUnusable, load_network, sha256_of


def main() -> int:
    settings = Settings()
    try:
        preset = preset_named(settings.backbone)
        path = find_weights(preset, settings.weights_dir)
        load_network(preset.timm_name, path, preset.side if preset.sized else None)
        sys.stdout.write(f"{preset.name}: {path}, sha256 {sha256_of(path)}\n")
    except (ValueError, WeightsUnusable) as error:  # both are written for users
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
