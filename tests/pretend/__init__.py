"""A CUDA device that is not there: real numbers on the CPU, PyTorch's rules for devices, a count of what is asked.

    with pretend.cuda() as log:
        partita.verify(net, prop, device="cuda")
    log.launches, log.waits

Within it PyTorch says that it has CUDA devices (`says`). A tensor there (`tensor`) holds a CPU tensor and calls itself
`cuda:0`; every operation arrives in a dispatch mode (`mode`), which refuses what CUDA would refuse (`rules`), counts
what a GPU would be asked (`log`), and computes on the CPU. Numbers are real, so whole searches run, at about 20
microseconds an operation more than on the CPU, and a tensor that was left on the wrong device is an error.

Not seen by it: numbers (they are the CPU's), memory, streams, operations that CUDA lacks for a dtype, Triton's own code
(the torch references run), and `torch.export`, whose fake tensors do not mix with it: import modules before.
"""

from .log import Log
from .says import cuda
from .tensor import Pretend

__all__ = ["Log", "Pretend", "cuda"]
