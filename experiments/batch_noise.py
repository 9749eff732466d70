"""Does the noise of batch statistics fall with the root of the batch size?

Arm: ``bn`` at the notes' settings, one network per seed.  The noise is measured on
random batches of 4 to 1,024 training images, before training and after some epochs.

Cost: 8.8 M image-passes at the standard size, all shared with ``convergence``; its own are
1.0 M forward passes for the noise.

Expected: images of a batch are independent, so the noise falls as B^(-1/2).

Command: ``bnstudy run batch-noise``

Source: Luo, Wang, Shao & Peng 2019; Teye, Azizpour & Smith 2018.
"""

from bnstudy.plan import Arm, Claim, Estimand, Exhibit, Experiment, Option, Profile, Variant

from .baseline import baseline_arm
from .common import groups, pilot

LAYERS = ("norm1", "norm2", "norm3", "norm4")
MARGIN = 0.05
# slopes on pilot seeds: mean, standard deviation
PILOT = {
    ("mean", "initial"): (-0.4923, 0.005341),
    ("mean", "trained"): (-0.4923, 0.00462),
    ("sd", "initial"): (-0.5217, 0.004157),
    ("sd", "trained"): (-0.522, 0.003911),
}
STATISTICS = {"mean": "mean", "sd": "standard deviation"}
MOMENTS: dict[str, dict[str, Option]] = {"initial": {"end": 0.0}, "trained": {"take": "last"}}


def arms(profile: Profile) -> tuple[Arm, ...]:
    """Return batch normalization at the notes' settings."""
    return (baseline_arm(profile, "bn", "BN"),)


CLAIMS = tuple(
    Claim(
        id=f"noise-law-{statistic}-{moment}",
        sentence=f"The noise of a batch's {name} falls as B^(-1/2) at {moment} weights",
        source="Luo et al. 2019; Teye et al. 2018",
        estimand=Estimand(
            "probe", groups("bn"), {"probe": "batch-noise", "stat": f"{statistic}_slope", **when}
        ),
        unit="decades of noise per decade of batch size",
        direction="within",
        centre=-0.5,
        margin=MARGIN,
        pilot=pilot(*PILOT[statistic, moment]),
        robustness=(
            *(Variant(f"{layer} alone", {"layer": layer}) for layer in LAYERS),
            Variant("margin 0.1", margin=0.1),
        ),
    )
    for statistic, name in STATISTICS.items()
    for moment, when in MOMENTS.items()
)


BATCH_NOISE = Experiment(
    name="batch-noise",
    title="How noisy are batch statistics?",
    question=(
        "Batch normalization uses mean and variance of a random batch, and so adds noise. Does "
        "this noise fall with the root of the batch size, in every layer?"
    ),
    literature=(
        "Luo et al. (2019) and Teye et al. (2018) model batch statistics as means of independent "
        "values, whose noise falls as one over the root of the batch size. In convolutional layers "
        "neighbouring positions are alike, so a batch holds fewer independent values than it has."
    ),
    design=(
        "LeNet with batch normalization at the notes' settings. Before training and after two "
        "epochs of it (ten at the full size) random batches of 4, 8, ..., 1,024 training images "
        "pass in training mode; the standard deviation of their means, in units of that of all "
        "values, and of their standard deviations, in units of their mean, is fitted against batch "
        "size on logarithmic scales, once per seed. The random batches are not those used for "
        "training."
    ),
    limits=(
        "After a first normalization layer the batch's own statistics hold part of the noise in "
        "place; the law is tested as it holds there, not for layers in isolation. With 4 images "
        "the standard deviation of a batch is itself a few per cent off the asymptotic law."
    ),
    arms=arms,
    claims=CLAIMS,
    exhibits=(
        Exhibit(
            "batch-noise",
            "Noise of the mean and of the standard deviation of a batch against its size, both on "
            "logarithmic axes: means of the seeds with intervals, thin lines are seeds. Dashed: "
            "the predicted slope, at any height.",
            {"arm": "bn", "layers": LAYERS},
        ),
        *(
            Exhibit(
                "layer-lines",
                f"{label}, by random batches of {size} images, before training and after.",
                {
                    "probe": "batch-noise",
                    "layers": LAYERS,
                    "tensor": "in",
                    "stat": f"{stat}_{size}",
                    "label": label,
                },
            )
            for stat, label, size in (("effective", "Independent values per image", 64),)
        ),
    ),
)
