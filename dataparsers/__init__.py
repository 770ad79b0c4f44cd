"""What `--data` can be: posed images that come with masks.

Of a plugin, Nerfstudio imports this first: deprecations of its other modules are hidden from here on.
"""

from gseg_ns.terminal import hide_deprecations

hide_deprecations()
