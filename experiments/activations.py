"""What does batch normalization change inside the network while it learns?

Arms: ``none`` and ``bn`` at the notes' settings (LeNet, sigmoid, batches of
256, SGD at 0.9), watched by :func:`bnstudy.activations.watch` on copies of the
network: percentiles and histograms of the inputs of each activation function on
fixed images; on the training batch its outputs and gradients, and the weights'
gradients and updates; gamma and beta.  The same with ReLUs at a rate of 0.1, for the
claims about the pace of layers.  ``none/recorded`` and ``bn/recorded``: two seeds with
a recorder attached for the whole run, to show that copies are read right.

Cost: 3.7 M image-passes at the standard size (4 arms x 16 seeds x 55,000, and 2 arms x 2 seeds
by the reference engine).  Watching 22 moments costs about as much again as training the epoch.

Expected: without normalization the layers' inputs wander and the lower layers
hardly get a gradient at first; with it percentiles stay, and layers learn at
comparable paces.

Command: ``bnstudy run activations``

Source: Ioffe & Szegedy (2015), figure 1; the notes' opening argument.
"""

from typing import Any

from bnstudy.config import RunConfig
from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Option, Profile, Variant

from .common import equally_spaced, groups, notes, trained

EPOCHS = {"tiny": 1, "quick": 2, "standard": 1, "full": 5}
WATCHED = {"tiny": 5, "quick": 21, "standard": 22, "full": 56}  # moments, equally spaced
FIXED = "fixed-activations"  # the probe whose images are the same at every moment
FIXED_IMAGES = 256  # as many as a batch: normalization is as exact as in training
PROOF_SEEDS = 2
EARLY = 0.2  # epochs in which the two engines have hardly drifted apart by rounding
ACTIVATIONS = ("act1", "act2", "act3", "act4")
SHOWN = ("none", "bn")
RELU_RATE = 0.1  # both arms train at 0.05 to 0.45, see tuning.py
WEIGHTED = ("conv1", "conv2", "fc1", "fc2", "fc3")
NORMS = ("norm1", "norm2", "norm3", "norm4")
BINS = {"bins": 40, "low": -4.0, "high": 4.0}
AFFINE_MOMENTS = 21  # equally spaced, at which gamma and beta are read


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return the notes' settings with and without normalization, watched."""
    epochs = EPOCHS[profile.name]
    base = notes(profile, test_every=epochs).replace(epochs=epochs)
    bn = base.replace(norm="bn")
    relu = base.replace(activation="relu", learning_rate=RELU_RATE, epochs=1)
    probes, first_epoch = watched(epochs, WATCHED[profile.name]), watched(1, WATCHED["standard"])
    affine = {"affine": {"epochs": equally_spaced(epochs, AFFINE_MOMENTS)}}
    recorder = {"recorder": probes["activations"]}
    sigmoids = (
        Arm("none", base, "no BN", probes=probes),
        Arm("bn", bn, "BN", probes={**probes, **affine}),
        proof("none", base, "no BN", recorder),
        proof("bn", bn, "BN", recorder),
    )
    if not profile.judges:  # no exhibit shows the ReLUs, only claims are about them
        return sigmoids
    return (
        *sigmoids,
        Arm("none/relu", relu, "no BN, ReLU", probes=first_epoch),
        Arm("bn/relu", relu.replace(norm="bn"), "BN, ReLU", probes=first_epoch),
    )


def proof(name: str, config: RunConfig, label: str, probes: dict[str, dict[str, Any]]) -> Arm:
    """Return an arm with the recorder in the network itself, which only one engine can train."""
    label = f"{label}, recorder attached"
    return Arm(
        f"{name}/recorded", config, label, by_reference=True, probes=probes, seeds=PROOF_SEEDS
    )


def watched(epochs: int, count: int) -> dict[str, dict[str, Any]]:
    """Return the probes of a run: batches of steps and fixed images, at the same moments."""
    moments = equally_spaced(epochs, count)
    return {
        "activations": {
            # no step follows the end, and the last batch of an epoch may be a smaller one, whose
            # mean loss has larger gradients
            "epochs": moments[:-1],
            "layers": list(ACTIVATIONS),
            "tensors": "both",
            "stats": ["quantiles", "std", "saturated"],
            "grads": True,
            "params": True,
        },
        FIXED: {
            "epochs": moments,
            "count": FIXED_IMAGES,
            "layers": list(ACTIVATIONS),
            "tensors": "in",
            "stats": ["quantiles", "std"],
            "histogram": BINS,
        },
    }


# A network on its plateau does not learn, at whatever pace its layers move: within the epochs
# that a claim reads both arms must have left it.
PACE_EPOCHS = 1.0
PACE: dict[str, Option] = {
    "tensor": "weight",
    "stat": "update_ratio",
    "upper": WEIGHTED[-1],
    "lower": WEIGHTED[0],
    "end": PACE_EPOCHS,
}
PACE_CHECKS = (
    Variant("against the second layer", {"lower": WEIGHTED[1]}),
    Variant("in the first half epoch", {"end": 0.5}),
)


def pace_claims(suffix: str, units: str) -> tuple[Claim, Claim]:
    """Return the claims about the pace of the first and the last layer, with some units."""
    tag = suffix.replace("/", "-")
    return (
        Claim(
            id=f"gradient-balance-none{tag}",
            sentence=f"Without BN the last layer learns faster than the first, with {units}: "
            "its relative updates over the first epoch are larger",
            source="Lecture notes; Ioffe & Szegedy 2015",
            estimand=Estimand("layer-ratio", groups(f"none{suffix}"), PACE, scale="ratio"),
            direction="greater",
            robustness=PACE_CHECKS,
            premises=(trained(f"none{suffix}", epochs=PACE_EPOCHS),),
        ),
        Claim(
            id=f"gradient-balance{tag}",
            sentence="With BN the relative updates of the first and the last layer are closer "
            f"to each other than without, with {units}",
            source="Lecture notes; Ioffe & Szegedy 2015",
            estimand=Estimand(
                "layer-ratio",
                groups(f"bn{suffix}", f"none{suffix}"),
                {**PACE, "distance": True},
                scale="ratio",
            ),
            direction="less",
            robustness=PACE_CHECKS,
            premises=(trained(f"bn{suffix}", f"none{suffix}", epochs=PACE_EPOCHS),),
        ),
    )


CLAIMS = (
    Claim(
        id="drift",
        sentence="The distributions of pre-activations drift less with BN",
        source="Lecture notes; Ioffe & Szegedy 2015, figure 1",
        estimand=Estimand("drift", groups("bn", "none"), {"probe": FIXED}, scale="ratio"),
        direction="less",
        robustness=tuple(Variant(f"into {name}", {"layer": name}) for name in ACTIVATIONS),
        # distributions of a network that does not learn have no reason to drift
        premises=(trained("bn", "none"),),
    ),
    *pace_claims("", "sigmoids"),
    *pace_claims("/relu", "ReLUs"),
)


ACTIVATIONS_EXPERIMENT = Experiment(
    name="activations",
    title="What happens inside the network?",
    question=(
        "Batch normalization is said to keep the distributions inside a network from wandering "
        "while it learns, and to let all layers learn at the same pace. What do activations, "
        "gradients and updates do with it and without it?"
    ),
    literature=(
        "Ioffe & Szegedy (2015, figure 1) show percentiles of one sigmoid's input that jump "
        "without normalization and stay with it. The notes argue that during training layers "
        "near the output learn faster than those near the input, and must learn again when those "
        "have changed. Santurkar et al. (2018) doubt that steadier distributions are why it helps."
    ),
    design=(
        "LeNet with sigmoids at the notes' settings: batches of 256, plain SGD at 0.9, "
        "Xavier-uniform weights, with and without batch normalization before each sigmoid. At "
        "equally spaced moments, 22 in the standard study, a copy of the network is read by "
        "bnstudy's own recorder, once on the batch of the next step, with its gradients and the "
        "update that the step makes, and once on 256 training images that stay the same for the "
        "whole run and are normalized by their own statistics. So what moves in the second "
        "reading is the network, not the choice of images. The training is as it would be without "
        "this, bit by bit. A seed gives both arms the same initial weights and the same order of "
        "images. Two more arms with ReLUs, at a rate of 0.1, serve the claims about the layers' "
        "pace; and a few runs with the recorder attached to the network itself show that copies "
        "are read right."
    ),
    limits=(
        "It describes one network, one rate and the start of training (at the standard size the "
        "first epoch, most of which the arm without BN spends on its plateau). That "
        "distributions are steadier does not show that training is faster for that reason. At the "
        "same rate the two arms are at different losses, so their gradients are compared within an "
        "arm, layer against layer."
    ),
    arms=arms,
    claims=CLAIMS,
    exhibits=(
        Exhibit(
            "percentile-bands",
            "Inputs of each sigmoid on the same 256 images at every moment: the band from the "
            "15th to the 85th percentile and the median, means of the seeds; thin lines: the "
            "median of each seed.",
            {"arms": SHOWN, "layers": ACTIVATIONS, "tensor": "in", "probe": FIXED},
        ),
        Exhibit(
            "histogram-maps",
            "Inputs of each sigmoid on the same 256 images at every moment, as a histogram at "
            "each: the stronger the colour, the more values lie there; mean of the seeds. The "
            "outermost bins are not drawn: values beyond ±4 are in the table.",
            {"arms": SHOWN, "layers": ACTIVATIONS, "probe": FIXED},
        ),
        Exhibit(
            "affine-paths",
            "Learned scale (γ) and shift (β) of the layers, channel by channel: the "
            "band from the 15th to the 85th percentile of a layer's channels and their median, "
            "means of the seeds; thin lines: single channels of one seed, six at most; "
            "dashed: the start. The notes say that changes of γ and β are kept from being too "
            "violent. Lengths are roots of sums of squares.",
            {"arm": "bn", "layers": NORMS, "weights": WEIGHTED[:4]},
        ),
        Exhibit(
            "layer-lines",
            "Standard deviation of the gradient of the loss with respect to each sigmoid's output, "
            "on the batch of a step, on a logarithmic scale. Thin lines: seeds; thick: their "
            "geometric mean.",
            {
                "arms": SHOWN,
                "layers": ACTIVATIONS,
                "tensor": "grad",
                "stat": "std",
                "label": "Size of the gradient",
                "log": True,
                "ratio": ("act4", "act1"),
            },
        ),
        Exhibit(
            "layer-lines",
            "Norm of the gradient of the loss with respect to each layer's weights, on the batch "
            "of a step, on a logarithmic scale.",
            {
                "arms": SHOWN,
                "layers": WEIGHTED,
                "tensor": "weight",
                "stat": "grad_norm",
                "label": "Gradient norm",
                "log": True,
                "ratio": (WEIGHTED[-1], WEIGHTED[0]),
            },
        ),
        Exhibit(
            "layer-lines",
            "Norm of a step's change of the weights, relative to the norm of the weights, "
            "layer by layer from the input (conv1) to the output (fc3).",
            {
                "arms": SHOWN,
                "layers": WEIGHTED,
                "tensor": "weight",
                "stat": "update_ratio",
                "label": "Relative update",
                "log": True,
                "ratio": ("fc3", "conv1"),
            },
        ),
        Exhibit(
            "layer-lines",
            "Share of each sigmoid's outputs on the batch of a step that are within 0.05 of 0 or "
            "1, where its slope is small.",
            {
                "arms": SHOWN,
                "layers": ACTIVATIONS,
                "tensor": "out",
                "stat": "saturated",
                "label": "Saturated outputs",
                "percent": True,
            },
        ),
        Exhibit(
            "learning-curves",
            "Validation accuracy of the same runs; thin lines: seeds, thick: their mean.",
            {"arms": SHOWN},
        ),
        Exhibit(
            "probe-agreement",
            "Two ways to read the same steps of the same seeds: the copies that the figures above "
            "are made of, and a recorder attached to the network for the whole run, in runs "
            "trained step by step by the reference engine. The differences left are rounding, "
            "which grows while two engines train the same network.",
            {
                "pairs": {"none": "none/recorded", "bn": "bn/recorded"},
                "layers": ACTIVATIONS,
                "early": EARLY,
            },
        ),
    ),
)
