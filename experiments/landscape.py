"""Does batch normalization reduce internal covariate shift, or smooth the loss?

Arms: ``none`` and ``bn`` at the notes' settings, probed often in the first epoch
and twice in each later one: how gradients change when lower layers move, and
how loss and gradient change along the gradient.

Cost: 17.6 M image-passes at the standard size, all shared with ``convergence``; its own are the
measurements of the probes in the first five epochs.

Expected, by Santurkar et al.: gradients change no less with batch normalization,
and the loss is smoother.

Command: ``bnstudy run landscape``

Source: Santurkar, Tsipras, Ilyas & Madry 2018.
"""

from dataclasses import replace
from typing import Any

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Option, Profile, Variant

from .baseline import LANDSCAPE_EPOCHS, baseline_arm
from .common import groups, pilot, trained

LABELS = {"none": "no BN", "bn": "BN"}
LAYERS = ("conv2", "fc1", "fc2", "fc3")
MATCHED_LOSS = 1.0  # reached by all pilot runs, after a first fall from log(10) = 2.3
SMOOTH: dict[str, Any] = {
    "probe": "landscape",
    "layer": "network",
    "tensor": "loss",
    "stats": {
        "beta": "change of the gradient per unit of weight",
        "loss_range": "range of the loss",
        "gradient_change": "change of the gradient",
    },
}
ICS_EFFECT, ICS_SPREAD = 0.367, 0.4064  # logarithm of the ratio on pilot seeds
ICS_MARGIN = 1.25
COSINE_MARGIN = 0.05
SOURCE = "Santurkar et al. 2018"


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the notes' settings with and without normalization, probed during training."""
    return tuple(baseline_arm(profile, norm, label) for norm, label in LABELS.items())


def at_same_loss(probe: str, tensor: str, stat: str, scale: str) -> Estimand:
    """Return BN against no BN in a statistic of a probe when both first reach the same loss."""
    options: dict[str, Option] = {
        "probe": probe,
        "tensor": tensor,
        "stat": stat,
        "loss": MATCHED_LOSS,
    }
    return Estimand("probe-at-loss", groups("bn", "none"), options, scale=scale)


RELATIVE_CHANGE = at_same_loss("gradient-shift", "gradient", "relative", "ratio")
BY_LAYER = tuple(Variant(f"in {layer}", {"layer": layer}) for layer in LAYERS)
SHIFT = (
    Claim(
        id="ics-gradient",
        sentence="At the same loss BN does not reduce by a fifth or more how far a layer's "
        "gradient changes when the layers below it move",
        source=SOURCE,
        estimand=RELATIVE_CHANGE,
        direction="greater",
        centre=0.8,
        robustness=(*BY_LAYER, Variant("does not reduce it at all", centre=1.0)),
    ),
    Claim(
        id="ics-gradient-same",
        sentence="At the same loss a layer's gradient changes as much with BN as without when "
        "the layers below it move",
        source=SOURCE,
        estimand=RELATIVE_CHANGE,
        direction="within",
        margin=ICS_MARGIN,
        family="explored",  # its spread is not known; the claim above is the one judged
        pilot=pilot(ICS_EFFECT, ICS_SPREAD),
        robustness=BY_LAYER,
    ),
    Claim(
        id="ics-cosine",
        sentence="At the same loss BN does not raise the cosine of gradients before and after "
        "the layers below move by 0.05 or more",
        source=SOURCE,
        estimand=at_same_loss("gradient-shift", "gradient", "cosine", "difference"),
        unit="of cosine",
        direction="less",
        centre=COSINE_MARGIN,
        robustness=(*BY_LAYER, Variant("does not raise it at all", centre=0.0)),
    ),
)
SMOOTHNESS = (
    *(
        Claim(
            id=f"smoothness-{name}",
            sentence=f"{subject} at the same loss, with BN than without",
            source=SOURCE,
            estimand=at_same_loss("landscape", "loss", stat, "ratio"),
            direction="less",
            # per unit of weight is what theory is about; the others depend on the rate too
            family="primary" if name == "beta" else "explored",
            robustness=checks,
        )
        for name, subject, stat, checks in (
            (
                "loss",
                "Steps along the gradient change the loss less,",
                "loss_range",
                (Variant("relative to the loss", {"stat": "loss_range_relative"}),),
            ),
            (
                "gradient",
                "Steps along the gradient change the gradient less,",
                "gradient_change",
                (Variant("relative to the gradient", {"stat": "gradient_change_relative"}),),
            ),
            (
                "beta",
                "The gradient changes less per unit of weight along the gradient,",
                "beta",
                (),
            ),
        )
    ),
    Claim(
        id="smoothness-start",
        sentence="At initial weights it is the other way round: the gradient changes more per "
        "unit of weight with BN",
        source=SOURCE,
        estimand=Estimand(
            "probe",
            groups("bn", "none"),
            {"probe": "landscape", "stat": "beta", "end": 0.0},
            scale="ratio",
        ),
        direction="greater",
        family="explored",
        robustness=(Variant("range of the loss", {"stat": "loss_range"}),),
    ),
)


def claims(profile: Profile) -> tuple[Claim, ...]:
    """Return the claims; those at the same loss with the premise that both arms got there.

    A run that does not reach the loss is read where its loss is least, and one that never
    learned is read on its plateau.
    """
    learned = trained("bn", "none", epochs=LANDSCAPE_EPOCHS[profile.name])
    return tuple(
        replace(claim, premises=(learned,)) if claim.estimand.measure == "probe-at-loss" else claim
        for claim in (*SHIFT, *SMOOTHNESS)
    )


def _lines(probe: str, tensor: str, stat: str, label: str, caption: str, log: bool) -> Exhibit:
    options = {"probe": probe, "layers": LAYERS, "tensor": tensor, "stat": stat, "label": label}
    return Exhibit("layer-lines", caption, {**options, "log": log})


LANDSCAPE = Experiment(
    name="landscape",
    title="Less covariate shift, or a smoother loss?",
    question=(
        "Batch normalization was introduced to reduce internal covariate shift. Does it, if shift "
        "is measured by what lower layers do to the gradients of upper ones? And is the loss "
        "smoother along the gradient instead?"
    ),
    literature=(
        "Ioffe & Szegedy (2015) introduced batch normalization against internal covariate shift. "
        "Santurkar et al. (2018) measure it by gradients and find as much or more of it; they hold "
        "that the loss becomes smoother: loss and gradient change less along the gradient."
    ),
    design=(
        "LeNet with sigmoids at the notes' settings, with and without batch normalization. Two "
        "probes measure, at the standard size every 11 steps at first, later twice an epoch, for "
        "five epochs; below it once or twice an epoch. One compares the gradient of every layer, "
        "on the batch of a step, before and after the layers below have made that step. The other "
        "goes 1/2 to 4 learning rates along the gradient of a fixed batch, in training mode. Both "
        "work on copies and do not change the training. Arms are compared when each first "
        "reaches the same loss."
    ),
    limits=(
        "The same loss is a different time of training, and one rate is used for both. A step of "
        "the same learning rate goes farther where gradients are larger; per unit of weight is "
        "another measure than per step, and the two may disagree. Before batch normalization the "
        "norm of the weights has no meaning of its own."
    ),
    arms=arms,
    claims=claims,
    exhibits=(
        _lines(
            "gradient-shift", "gradient", "relative", "Relative change of the gradient",
            "Change of each layer's gradient when the layers below it move, over its length.",
            True,
        ),
        _lines(
            "gradient-shift", "gradient", "cosine", "Cosine of the gradients",
            "Cosine of each layer's gradient before and after the layers below it move.", False,
        ),
        Exhibit(
            "probe-bands",
            "Steps of 1/2 to 4 learning rates along the gradient: largest less smallest loss, "
            "largest change of the gradient, and the same per unit of weight. Thick: geometric "
            "means of the seeds; bands: their 95% intervals; thin lines: seeds.",
            {**SMOOTH, "log": True},
        ),
        Exhibit(
            "probe-bands",
            "The same numbers against the loss at that moment, one dot per seed and moment: "
            "further right is later in training.",
            {**SMOOTH, "log": True, "against_loss": True},
        ),
        Exhibit("learning-curves", "Validation accuracy of the same runs.", {}),
    ),
)  # fmt: skip
