"""Peaks of the phases of one step or call, from CUDA's own counters.

In: word of each phase that begins. Out: peaks allocated of each phase, of the last time and of all, and the peak
reserved.
"""

import time


class PhasePeaks:
    """Watches phases; one that comes again within a step, as for each clip of a batch, has the higher of its peaks."""

    def __init__(self) -> None:
        self.phase = "inputs"
        self.peaks: dict[str, int] = {}
        self.last_peaks: dict[str, int] = {}
        self.peak_reserved = 0
        self.phase_started_us: dict[str, float] = {}

    def start(self, phase: str) -> None:
        """Begin a step with a phase."""
        self.last_peaks = {}
        self._begin(phase)

    def enter(self, phase: str) -> None:
        """Go on to another phase."""
        if phase != self.phase:
            self._end()
            self._begin(phase)

    def finish(self) -> None:
        """End the step, when the device has done all of it."""
        import torch

        torch.cuda.synchronize()
        self._end()

    def _begin(self, phase: str) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()
        self.phase = phase
        self.phase_started_us[phase] = time.time() * 1e6

    def _end(self) -> None:
        import torch

        peak = torch.cuda.max_memory_allocated()
        self.last_peaks[self.phase] = max(peak, self.last_peaks.get(self.phase, 0))
        self.peaks[self.phase] = max(peak, self.peaks.get(self.phase, 0))
        self.peak_reserved = max(self.peak_reserved, torch.cuda.max_memory_reserved())
