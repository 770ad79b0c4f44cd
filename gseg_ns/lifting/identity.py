"""Identity encodings and their classifier (Gaussian Grouping; Gaga Eq. 2; GradiSeg section 3).

An encoding e_i of D numbers a Gaussian is composited like a color; a linear layer turns the composited encoding of a
pixel, or the encoding of a single Gaussian, into scores of the groups.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gseg_ns.lifting.blocks import highest_score
from gseg_ns.lifting.cross_entropy import cross_entropies

SHARPNESS = 10.0
"""Score of a group for an encoding that is exactly its code: softmax then gives it nearly everything."""


SILENT = 0.05
"""An encoding shorter than this (codes have length 1) belongs to no group: empty pixels, Gaussians never seen."""


SH_C0 = 0.28209479177387814
"""The constant of spherical harmonics of degree 0."""


class IdentityClassifier(nn.Module):
    """Linear layer from encodings to groups, whose number of groups can be set after the optimizer was made.

    The parameters keep their identity when resized, so that an optimizer built before the association still holds them.
    """

    def __init__(self, dim: int, num_classes: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((num_classes, dim)))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @property
    def num_classes(self) -> int:
        """Number of classes, class 0 being "unlabelled"."""
        return self.weight.shape[0]

    def resize(self, num_classes: int) -> None:
        """Change the number of classes; all weights become zero."""
        dim = self.weight.shape[1]
        self.weight.data = self.weight.new_zeros((num_classes, dim))
        self.bias.data = self.bias.new_zeros(num_classes)

    @torch.no_grad()
    def start(self, num_classes: int) -> None:
        """Change the number of classes; weights as of a fresh 1x1 convolution, uniform in +-1/sqrt(D)."""
        self.resize(num_classes)
        bound = self.weight.shape[1] ** -0.5
        for values in (self.weight, self.bias):
            values.copy_(torch.empty(values.shape).uniform_(-bound, bound))

    def predict(self, encodings: Tensor, train_unlabelled: bool = False, num_groups: int | None = None) -> Tensor:
        """Decide the group of encodings [..., D]: int64 [...], 0 where the encoding says nothing.

        Args:
            encodings: composited or single encodings.
            train_unlabelled: whether class 0 was trained and may win.
            num_groups: classes beyond these were only trained to be no answer; None: there are none.
        """
        last = self.num_classes if num_groups is None else num_groups + 1
        if train_unlabelled or last == 1:
            return highest_score(encodings, self.weight[:last], self.bias[:last])
        label = highest_score(encodings, self.weight[1:last], self.bias[1:last]) + 1
        return torch.where(encodings.norm(dim=-1) < SILENT, 0, label)

    def forward(self, encodings: Tensor) -> Tensor:
        """Map encodings [..., D] to scores [..., C].

        The scores lie class by class in memory: a softmax over a dozen classes then runs along the pixels, of which the
        CPU takes several at once.
        """
        scores = torch.addmm(self.bias[:, None], self.weight, encodings.reshape(-1, encodings.shape[-1]).T)
        return scores.T.view(*encodings.shape[:-1], self.num_classes)


def random_colors(count: int, dim: int) -> Tensor:
    """Features [count, dim] like random colors in SH, uniform in +-1.77 (Gaussian Grouping's code)."""
    return (torch.rand(count, dim) - 0.5) / SH_C0


def identity_loss(
    classifier: IdentityClassifier, encodings: Tensor, targets: Tensor, train_unlabelled: bool = False
) -> Tensor:
    """Cross entropy of pixels against their group, divided by ln C as the official codes do.

    Args:
        classifier: makes the scores of C groups.
        encodings: of the pixels, [P, D].
        targets: [P] int64, the group of each pixel, 0 = unlabelled.
        train_unlabelled: treat 0 as an ordinary class (the official codes). Otherwise those pixels, and class 0 itself,
            are left out, so that holes in the masks are filled and not learned.

    Returns:
        The mean over the pixels that count; zero when none does.
    """
    weight: Tensor = classifier.weight
    bias: Tensor = classifier.bias
    if not train_unlabelled:
        weight, bias, targets = weight[1:], bias[1:], targets - 1
    if len(weight) == 0:
        return (encodings.sum() + weight.sum() + bias.sum()) * 0
    # The mean by hand: whether there is any pixel to take it over is a question that would wait for a GPU.
    loss = cross_entropies(encodings, weight, bias, targets) / (targets >= 0).sum().clamp_min(1)
    return loss / math.log(max(len(weight), 2))


def spread_codes(num_codes: int, dim: int, seed: int = 0, rounds: int = 200) -> Tensor:
    """Place `num_codes` unit vectors in `dim` dimensions far apart: [num_codes, dim] float32.

    Up to `dim` codes are orthonormal. Beyond that, random ones repel each other (gradient steps on a soft maximum of
    their cosines), which for 200 codes in 16 dimensions lowers the largest cosine from 0.81 to 0.37.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = F.normalize(torch.randn((num_codes, dim), generator=generator), dim=1)
    if num_codes <= dim:
        return torch.linalg.qr(codes.T)[0].T.contiguous()
    with torch.enable_grad():
        for step in range(rounds):
            codes = codes.detach().requires_grad_()
            cosine = codes @ codes.T - 2 * torch.eye(num_codes)
            torch.logsumexp(20 * cosine, dim=1).sum().backward()
            rate = 0.05 * (1 - step / rounds)
            assert codes.grad is not None
            codes = F.normalize(codes.detach() - rate * F.normalize(codes.grad, dim=1), dim=1)
    return codes.detach()


@torch.no_grad()
def initialise_from_labels(labels: Tensor, num_classes: int, dim: int, classifier: IdentityClassifier) -> Tensor:
    """Start encodings and classifier at the closed-form lift: a Gaussian's encoding is its label's code.

    Each group gets one of `spread_codes`, and the classifier reads the codes back. Rendering the result is already the
    closed-form segmentation.

    Args:
        labels: [N] int64, 0 = none.
        num_classes: C, one more than the largest label.
        dim: D.
        classifier: is resized to C classes and overwritten.

    Returns:
        encodings [N, D]; zero for Gaussians without a label.
    """
    codes = torch.zeros((num_classes, dim), device=labels.device)
    if num_classes > 1:
        codes[1:] = spread_codes(num_classes - 1, dim).to(labels.device)
    classifier.resize(num_classes)
    classifier.weight.copy_(SHARPNESS * codes)
    return codes[labels]
