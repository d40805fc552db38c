"""Imported by the fork server, after torch and before theworld: leaves a fork that follows the plans of "globals".

In: the environment variable `ADDRESS`, where the judge listens. The fork has what a fresh process imports first, and
nothing else; see `fresh_process`.
"""

import os

from theworld_validate.audits.global_probe import ADDRESS, become_fresh, follow_plans

if (_address := os.environ.pop(ADDRESS, None)) is not None and not os.fork():
    try:
        become_fresh()
        follow_plans(_address)
    finally:
        os._exit(0)
